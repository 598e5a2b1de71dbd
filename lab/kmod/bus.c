// SPDX-License-Identifier: GPL-2.0
/* A root bus in software for each GPU, its config accesses and its memory. */
#include <linux/io.h>
#include "vgpu_sim.h"

#define SRIOV_CAP	0x140
#define PCIE_CAP	0x40

/*
 * Physical address of RAM kept from the kernel by memmap=. Without it BARs
 * have nothing behind them, and slices cannot be told apart from inside.
 */
u64 sim_window_base;
module_param_named(window, sim_window_base, ullong, 0444);
MODULE_PARM_DESC(window, "address of RAM set aside with memmap= for the BARs");

#define UNBACKED_WINDOW	(256ULL << 30)

struct sim_gpu *sim_gpu_of_bus(struct pci_bus *bus)
{
	unsigned int i;

	for (i = 0; i < sim_nr_gpus; i++)
		if (bus->sysdata == &sim_gpus[i]->sysdata)
			return sim_gpus[i];
	return NULL;
}

struct sim_gpu *sim_gpu_of(struct pci_dev *pdev)
{
	return sim_gpu_of_bus(pdev->bus);
}

/* The VF's number, from 0; -1 for what is not a VF. */
int sim_vf_number(struct pci_dev *pdev)
{
	return pdev->is_virtfn ? pdev->devfn - SIM_VF_OFFSET : -1;
}

void sim_vf_name(struct sim_gpu *gpu, int vf, char *buf, size_t size)
{
	unsigned int devfn = vf < 0 ? 0 : SIM_VF_OFFSET + vf;

	snprintf(buf, size, "0000:%02x:%02x.%x", SIM_BUS(gpu->index), PCI_SLOT(devfn),
		 PCI_FUNC(devfn));
}

static bool vfs_enabled(struct sim_gpu *gpu, unsigned int vf)
{
	u8 *cap = gpu->functions[0].cfg + SRIOV_CAP;

	return gpu->preset->total_vfs && (cap[PCI_SRIOV_CTRL] & PCI_SRIOV_CTRL_VFE) &&
	       vf < get_unaligned_le16(cap + PCI_SRIOV_NUM_VF);
}

static struct sim_function *function_at(struct sim_gpu *gpu, unsigned int devfn)
{
	if (gpu->vanished)
		return NULL;
	if (devfn == 0)
		return &gpu->functions[0];
	if (devfn == 1 && gpu->preset->audio_device)
		return &gpu->functions[1];
	if (devfn >= SIM_VF_OFFSET && vfs_enabled(gpu, devfn - SIM_VF_OFFSET))
		return &gpu->functions[2 + devfn - SIM_VF_OFFSET];
	return NULL;
}

static int sim_config_read(struct pci_bus *bus, unsigned int devfn, int where, int size,
			   u32 *value)
{
	struct sim_gpu *gpu = sim_gpu_of_bus(bus);
	struct sim_function *f;
	unsigned long flags;
	int i;

	*value = ~0;
	if (!gpu || where + size > SIM_CFG_SIZE)
		return PCIBIOS_DEVICE_NOT_FOUND;
	spin_lock_irqsave(&gpu->cfg_lock, flags);
	f = function_at(gpu, devfn);
	if (f) {
		*value = 0;
		for (i = 0; i < size; i++)
			*value |= (u32)f->cfg[where + i] << (8 * i);
	}
	spin_unlock_irqrestore(&gpu->cfg_lock, flags);
	return f ? PCIBIOS_SUCCESSFUL : PCIBIOS_DEVICE_NOT_FOUND;
}

/* What a written bit does beside being stored. */
static void side_effects(struct sim_gpu *gpu, unsigned int devfn, int where, int size,
			 u32 value)
{
	int flr = PCIE_CAP + PCI_EXP_DEVCTL;

	if (where <= flr && where + size >= flr + 2 && devfn >= SIM_VF_OFFSET &&
	    (value >> (8 * (flr - where))) & PCI_EXP_DEVCTL_BCR_FLR) {
		sim_config_vf_reset(gpu, devfn - SIM_VF_OFFSET);
		sim_xe_flr(gpu, devfn - SIM_VF_OFFSET);
	}
}

static int sim_config_write(struct pci_bus *bus, unsigned int devfn, int where, int size,
			    u32 value)
{
	struct sim_gpu *gpu = sim_gpu_of_bus(bus);
	struct sim_function *f;
	unsigned long flags;
	int i;

	if (!gpu || where + size > SIM_CFG_SIZE)
		return PCIBIOS_DEVICE_NOT_FOUND;
	spin_lock_irqsave(&gpu->cfg_lock, flags);
	f = function_at(gpu, devfn);
	for (i = 0; f && i < size; i++) {
		u8 mask = f->mask[where + i];

		f->cfg[where + i] = (f->cfg[where + i] & ~mask) | ((value >> (8 * i)) & mask);
	}
	if (f)
		side_effects(gpu, devfn, where, size, value);
	spin_unlock_irqrestore(&gpu->cfg_lock, flags);
	return f ? PCIBIOS_SUCCESSFUL : PCIBIOS_DEVICE_NOT_FOUND;
}

static struct pci_ops sim_pci_ops = {
	.read = sim_config_read,
	.write = sim_config_write,
};

/* Writes what the function's BAR reads back; vf -1 is the PF. */
void sim_identity(struct sim_gpu *gpu, int vf, const char *text)
{
	struct pci_dev *pdev = gpu->pdev;
	char page[SIM_IDENTITY] = "";
	resource_size_t at;
	void __iomem *bar;

	if (!sim_window_base || !pdev)
		return;
	if (vf < 0)
		at = pci_resource_start(pdev, 0);
	else
		at = pci_resource_start(pdev, PCI_IOV_RESOURCES) + vf * SIM_VF_BAR;
	if (!at)
		return;
	strscpy(page, text, sizeof(page));
	bar = ioremap(at, PAGE_SIZE);
	if (!bar)
		return;
	memcpy_toio(bar, page, sizeof(page));
	iounmap(bar);
}

static int claim_window(struct sim_gpu *gpu)
{
	u64 base = sim_window_base ?: UNBACKED_WINDOW;

	gpu->window.start = base + (u64)gpu->index * SIM_WINDOW;
	gpu->window.end = gpu->window.start + SIM_WINDOW - 1;
	gpu->window.name = gpu->name;
	gpu->window.flags = IORESOURCE_MEM | IORESOURCE_MEM_64 | IORESOURCE_PREFETCH;
	if (region_intersects(gpu->window.start, SIM_WINDOW, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT) {
		pr_err("window=0x%llx is memory of the kernel; set it aside with memmap=\n", base);
		return -EBUSY;
	}
	return insert_resource(&iomem_resource, &gpu->window);
}

static int scan(struct sim_gpu *gpu)
{
	struct pci_host_bridge *bridge = pci_alloc_host_bridge(0);
	int ret;

	if (!bridge)
		return -ENOMEM;
	gpu->busn.start = gpu->busn.end = SIM_BUS(gpu->index);
	gpu->busn.flags = IORESOURCE_BUS;
	gpu->busn.name = gpu->name;
	pci_add_resource(&bridge->windows, &gpu->window);
	pci_add_resource(&bridge->windows, &gpu->busn);
	bridge->sysdata = &gpu->sysdata;
	bridge->busnr = SIM_BUS(gpu->index);
	bridge->ops = &sim_pci_ops;

	pci_lock_rescan_remove();
	ret = pci_scan_root_bus_bridge(bridge);
	if (ret) {
		pci_unlock_rescan_remove();
		pci_free_host_bridge(bridge);
		return ret;
	}
	gpu->bus = bridge->bus;
	pci_bus_claim_resources(gpu->bus);
	pci_bus_add_devices(gpu->bus);
	pci_unlock_rescan_remove();
	return 0;
}

int sim_bus_add(struct sim_gpu *gpu)
{
	int ret;

	gpu->sysdata.node = NUMA_NO_NODE;
	ret = claim_window(gpu);
	if (ret)
		return ret;
	sim_config_build(gpu);
	ret = scan(gpu);
	if (ret)
		remove_resource(&gpu->window);
	return ret;
}

void sim_bus_remove(struct sim_gpu *gpu)
{
	if (!gpu->bus)
		return;
	pci_lock_rescan_remove();
	pci_stop_root_bus(gpu->bus);
	pci_remove_root_bus(gpu->bus);
	pci_unlock_rescan_remove();
	gpu->bus = NULL;
	remove_resource(&gpu->window);
}

/* Surprise: first nothing answers any more, then the PCI core notices. */
void sim_bus_vanish(struct sim_gpu *gpu)
{
	struct pci_dev *pdev, *next;

	WRITE_ONCE(gpu->vanished, true);
	pci_lock_rescan_remove();
	list_for_each_entry(pdev, &gpu->bus->devices, bus_list)
		pdev->error_state = pci_channel_io_perm_failure;
	list_for_each_entry_safe_reverse(pdev, next, &gpu->bus->devices, bus_list)
		if (!pdev->is_virtfn)
			pci_stop_and_remove_bus_device(pdev);
	pci_unlock_rescan_remove();
}

/* It is back, as after a power cycle. */
void sim_bus_return(struct sim_gpu *gpu)
{
	unsigned int i;

	if (!gpu->vanished)
		return;
	for (i = 0; i < 2; i++) {
		memset(gpu->functions[i].cfg, 0, SIM_CFG_SIZE);
		memset(gpu->functions[i].mask, 0, SIM_CFG_SIZE);
	}
	sim_config_build(gpu);
	WRITE_ONCE(gpu->vanished, false);
	pci_lock_rescan_remove();
	pci_scan_child_bus(gpu->bus);
	pci_bus_claim_resources(gpu->bus);
	pci_bus_add_devices(gpu->bus);
	pci_unlock_rescan_remove();
}

static bool is_ours(struct device *dev)
{
	return dev->driver && dev->driver->owner == THIS_MODULE;
}

/*
 * vfio-pci on a function of ours holds a reference on this module, so that
 * "rmmod" is refused instead of waiting for a guest.
 */
static int sim_bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct sim_gpu *gpu = sim_gpu_of(pdev);
	struct sim_function *f;

	if (!gpu)
		return NOTIFY_DONE;
	f = &gpu->functions[pdev->devfn < SIM_VF_OFFSET ? pdev->devfn :
			    2 + pdev->devfn - SIM_VF_OFFSET];
	if (event == BUS_NOTIFY_BOUND_DRIVER && !is_ours(data) && !f->pinned) {
		f->pinned = try_module_get(THIS_MODULE);
	} else if (event == BUS_NOTIFY_UNBOUND_DRIVER && f->pinned) {
		f->pinned = false;
		module_put(THIS_MODULE);
	}
	return NOTIFY_OK;
}

static struct notifier_block sim_bus_notifier = { .notifier_call = sim_bus_event };

int sim_bus_init(void)
{
	return bus_register_notifier(&pci_bus_type, &sim_bus_notifier);
}

void sim_bus_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &sim_bus_notifier);
}
