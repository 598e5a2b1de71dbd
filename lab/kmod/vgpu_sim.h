/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vgpu-sim: GPUs made in software, for the lab of vgpud. Everything above the
 * silicon is real: the PCI core makes the VFs, VFIO and QEMU open them.
 */
#ifndef VGPU_SIM_H
#define VGPU_SIM_H

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/list.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uuid.h>
#include <linux/version.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/pci.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#include <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif
#include "placement.h"

#define SIM_MAX_GPUS	16
#define SIM_MAX_VFS	64
#define SIM_MAX_TYPES	48
#define SIM_MAX_GIS	7
#define SIM_CFG_SIZE	4096
/* Memory of one GPU's BARs, and where its root bus is. */
#define SIM_WINDOW	SZ_2M
#define SIM_BUS(index)	(0x40 + 2 * (index))
#define SIM_PF_BAR	SZ_64K
#define SIM_VF_BAR	SZ_16K
/* From where in the window the VFs' BARs are. */
#define SIM_VF_BARS	SZ_1M
/* The first VF's routing id, counted from the PF's. */
#define SIM_VF_OFFSET	4
#define SIM_IDENTITY	256

enum sim_road {
	ROAD_MDEV_PF,		/* NVIDIA before SR-IOV: types on the PF */
	ROAD_MDEV_VF,		/* NVIDIA: each VF an mdev parent */
	ROAD_VFIO,		/* NVIDIA: a type number into the VF */
	ROAD_XE,
	ROAD_GIM,
	ROAD_PLAIN,		/* no slices */
};

struct sim_type {
	unsigned int id;
	const char *name;
	unsigned int fb_mib;
	unsigned int max;
	const char *gi;		/* profile of the GPU instance, NULL if none */
	unsigned int gis;	/* how many such instances fit the GPU */
	unsigned int gi_id;	/* the profile's number */
};

struct sim_preset {
	const char *name;
	const char *board;
	enum sim_road road;
	enum placement_arch arch;
	u16 vendor;
	u16 device;
	u16 vf_device;
	u16 subvendor;
	u16 subdevice;
	u32 class;		/* 24 bits */
	u16 audio_device;	/* 0: one function only */
	unsigned int total_vfs;
	unsigned int fb_mib;
	unsigned int region;	/* GB, as placement counts */
	bool can_mix;
	bool can_mig;
	bool discrete;
	const struct sim_type *types;
	unsigned int nr_types;
};

struct sim_vgpu {
	struct list_head node;
	unsigned int id;
	const struct sim_type *type;
	int vf;			/* number of the VF, -1: on the PF itself */
	unsigned int placement;
	unsigned int gi;	/* number of the GPU instance, 0: none */
	guid_t mdev;
	bool has_mdev;
	bool running;
	pid_t pid;		/* who has it open, while it runs */
	unsigned int sm;	/* percent, as a test set it */
	unsigned int mem;
	char params[256];
	char vm_uuid[UUID_STRING_LEN + 1];
};

/* A GPU instance. */
struct sim_gi {
	const struct sim_type *type;	/* whose profile it has; NULL: there is none */
	unsigned int start;		/* in memory slices */
	unsigned int size;
};

enum sim_scheduler { SCHED_BEST_EFFORT, SCHED_EQUAL_SHARE, SCHED_FIXED_SHARE };

/* Faults on demand. */
struct sim_faults {
	unsigned int fail_in;	/* the write that fails, counted from now */
	int fail_errno;
	bool hang_remove;
	bool types_late;
	unsigned int late_types_ms;
};

/* One PCI function: 0 is the PF, 1 its audio function, the rest are VFs. */
struct sim_function {
	u8 cfg[SIM_CFG_SIZE];
	u8 mask[SIM_CFG_SIZE];
	bool pinned;		/* a driver of somebody else is on it */
};

struct sim_xe;
struct sim_mdev_parent;

struct sim_gpu {
	const struct sim_preset *preset;
	unsigned int index;
	char name[16];		/* address of the PF */
	struct pci_sysdata sysdata;
	struct resource window;
	struct resource busn;
	struct pci_bus *bus;
	struct pci_dev *pdev;	/* while the PF has our driver */
	spinlock_t cfg_lock;
	struct sim_function *functions;	/* 2 + total_vfs */
	bool vanished;

	unsigned int vfs;	/* changes under the PF's device lock */
	unsigned long types_at;		/* jiffies: from when types are listed */

	struct mutex lock;		/* all below */
	struct list_head vgpus;
	unsigned int next_id;
	bool mixed;
	bool mig;
	struct sim_gi gis[SIM_MAX_GIS];	/* number N is at N - 1 */
	enum sim_scheduler scheduler;
	u64 time_slice_ns;
	pid_t process;		/* computes on the GPU itself; 0 for nobody */
	bool unbind_locked;
	struct sim_faults faults;
	wait_queue_head_t unhang;
	atomic_t sessions;

	struct sim_mdev_parent *mdev_parent;	/* of the PF */
	struct sim_xe *xe;
	struct work_struct vanish_work;
	struct work_struct reset_work;
	struct work_struct return_work;
	struct dentry *debugfs;
};

extern struct sim_gpu *sim_gpus[SIM_MAX_GPUS];
extern unsigned int sim_nr_gpus;
extern unsigned int sim_types_delay_ms;
extern unsigned int sim_vf_num;

/* presets.c */
const struct sim_preset *sim_preset_find(const char *name, size_t len);
const char *sim_preset_at(unsigned int i);
const struct sim_type *sim_type_find(const struct sim_preset *p, unsigned int id);

/* config.c */
void sim_config_build(struct sim_gpu *gpu);
void sim_config_vf_reset(struct sim_gpu *gpu, unsigned int vf);

/* bus.c */
extern u64 sim_window_base;
struct sim_gpu *sim_gpu_of_bus(struct pci_bus *bus);
struct sim_gpu *sim_gpu_of(struct pci_dev *pdev);
int sim_vf_number(struct pci_dev *pdev);
void sim_vf_name(struct sim_gpu *gpu, int vf, char *buf, size_t size);
int sim_bus_add(struct sim_gpu *gpu);
void sim_bus_remove(struct sim_gpu *gpu);
void sim_bus_vanish(struct sim_gpu *gpu);
void sim_bus_return(struct sim_gpu *gpu);
int sim_bus_init(void);
void sim_bus_exit(void);
void sim_identity(struct sim_gpu *gpu, int vf, const char *text);

/* vgpu.c */
bool sim_vgpu_creatable(struct sim_gpu *gpu, const struct sim_type *type);
unsigned int sim_vgpu_available(struct sim_gpu *gpu, const struct sim_type *type);
struct sim_vgpu *sim_vgpu_of_vf(struct sim_gpu *gpu, int vf);
struct sim_vgpu *sim_vgpu_create(struct sim_gpu *gpu, const struct sim_type *type,
				 int vf, const guid_t *mdev);
void sim_vgpu_destroy(struct sim_gpu *gpu, struct sim_vgpu *vgpu);
void sim_vgpu_destroy_all(struct sim_gpu *gpu);
bool sim_vgpu_running(struct sim_gpu *gpu);
unsigned int sim_type_size(const struct sim_type *type);
void sim_type_placements(struct sim_gpu *gpu, const struct sim_type *type, bool mixed,
			 struct placement_list *out);
int sim_vgpu_place(struct sim_gpu *gpu, struct sim_vgpu *vgpu, unsigned int id);
int sim_vgpu_set_params(struct sim_gpu *gpu, struct sim_vgpu *vgpu, const char *buf,
			size_t count);
int sim_vgpu_start(struct sim_gpu *gpu, struct sim_vgpu *vgpu);
void sim_vgpu_describe(struct sim_gpu *gpu, struct sim_vgpu *vgpu, char *buf);

/* mig.c */
bool sim_gi_any(struct sim_gpu *gpu);
unsigned int sim_gi_count(struct sim_gpu *gpu, const struct sim_type *type);
unsigned int sim_gi_free(struct sim_gpu *gpu, const struct sim_type *type);
int sim_gi_create(struct sim_gpu *gpu, const char *profile);
int sim_gi_destroy(struct sim_gpu *gpu, unsigned int id);
int sim_gi_set_count(struct sim_gpu *gpu, const char *profile, unsigned int count);
void sim_gi_show(struct seq_file *s, struct sim_gpu *gpu);

/* nvidia.c */
bool sim_is_nvidia(const struct sim_gpu *gpu);
int sim_nvidia_set_vfs(struct sim_gpu *gpu, unsigned int vfs);
void sim_nvidia_forget(struct sim_gpu *gpu);
int sim_nvidia_init(void);
void sim_nvidia_exit(void);

/* nvidia_vfio.c */
int sim_vfio_probe(struct sim_gpu *gpu, struct pci_dev *pdev);
void sim_vfio_remove(struct pci_dev *pdev);

/* mdev.c and mdev_device.c */
extern struct mdev_driver sim_mdev_driver;
struct sim_mdev_parent *sim_mdev_parent_add(struct sim_gpu *gpu, struct pci_dev *pdev,
					    int vf, unsigned int delay_ms);
void sim_mdev_parent_remove(struct sim_mdev_parent *parent);
struct sim_gpu *sim_mdev_gpu(struct mdev_type *type, int *vf,
			     const struct sim_type **sim_type);
unsigned int sim_mdev_available(struct mdev_type *type);
ssize_t sim_mdev_description(struct mdev_type *type, char *buf);
int sim_mdev_init(void);
void sim_mdev_exit(void);

/* xe.c and xe_sysfs.c */
#define SIM_XE_NODES	(SIM_MAX_VFS + 1)
struct sim_xe_node {
	struct kobject kobj;
	struct sim_gpu *gpu;
	unsigned int id;	/* 0: the PF */
	unsigned int exec_quantum_ms;
	unsigned int preempt_timeout_us;
	unsigned int priority;	/* 0 low, 1 normal, 2 high */
	u64 vram_quota;
	bool stopped;
};

struct sim_xe {
	struct kobject *admin;
	struct sim_xe_node *nodes[SIM_XE_NODES];
	struct sim_xe_node *bulk;
	bool manual;
};

u64 sim_xe_vram_total(struct sim_gpu *gpu);
int sim_xe_set_vram(struct sim_gpu *gpu, struct sim_xe_node *node, u64 bytes);
void sim_xe_identify(struct sim_gpu *gpu, struct sim_xe_node *node);
int sim_xe_sysfs_add(struct sim_gpu *gpu);
void sim_xe_sysfs_remove(struct sim_gpu *gpu);
void sim_xe_sysfs_link(struct sim_gpu *gpu);
void sim_xe_sysfs_unlink(struct sim_gpu *gpu);
void sim_xe_flr(struct sim_gpu *gpu, unsigned int vf);
int sim_xe_init(void);
void sim_xe_exit(void);

/* gim.c, plain.c */
int sim_gim_init(void);
void sim_gim_exit(void);
int sim_plain_init(void);
void sim_plain_exit(void);

/* faults.c */
int sim_fault_write(struct sim_gpu *gpu);
void sim_fault_hang(struct sim_gpu *gpu);
int sim_fault_set(struct sim_gpu *gpu, const char *key, const char *value);
void sim_faults_init(struct sim_gpu *gpu);
void sim_faults_stop(struct sim_gpu *gpu);

/* debugfs.c, proc.c */
void sim_debugfs_add(struct sim_gpu *gpu);
void sim_debugfs_init(void);
void sim_debugfs_exit(void);
void sim_proc_init(void);
void sim_proc_exit(void);

#endif
