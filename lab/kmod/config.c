// SPDX-License-Identifier: GPL-2.0
/* The config spaces of a GPU's functions: what is in them and what can be written. */
#include "vgpu_sim.h"

#define PCIE_CAP	0x40
#define ARI_CAP		0x100
#define SRIOV_CAP	0x140

static void put16(u8 *at, u16 value)
{
	put_unaligned_le16(value, at);
}

static void put32(u8 *at, u32 value)
{
	put_unaligned_le32(value, at);
}

static void ext_cap(struct sim_function *f, int at, u16 id, int next)
{
	put32(f->cfg + at, PCI_EXT_CAP_ID(id) | 1 << 16 | next << 20);
}

/*
 * A 64-bit prefetchable BAR of a power of two, placed as firmware would. The
 * kernel would place none itself in memory that was set aside from it.
 */
static void bar64(struct sim_function *f, int at, u32 size, u64 start)
{
	put32(f->cfg + at, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH |
	      lower_32_bits(start));
	put32(f->cfg + at + 4, upper_32_bits(start));
	put32(f->mask + at, ~(size - 1));
	put32(f->mask + at + 4, ~0);
}

static void common(struct sim_gpu *gpu, struct sim_function *f)
{
	const struct sim_preset *p = gpu->preset;

	put32(f->cfg + PCI_CLASS_REVISION, p->class << 8 | 0xa1);
	put16(f->cfg + PCI_SUBSYSTEM_VENDOR_ID, p->subvendor);
	put16(f->cfg + PCI_SUBSYSTEM_ID, p->subdevice);
	put16(f->cfg + PCI_STATUS, PCI_STATUS_CAP_LIST);
	put16(f->mask + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
	      PCI_COMMAND_INTX_DISABLE);
	f->mask[PCI_CACHE_LINE_SIZE] = 0xff;
	f->mask[PCI_INTERRUPT_LINE] = 0xff;
	f->cfg[PCI_CAPABILITY_LIST] = PCIE_CAP;

	f->cfg[PCIE_CAP] = PCI_CAP_ID_EXP;
	put16(f->cfg + PCIE_CAP + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	put32(f->cfg + PCIE_CAP + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put16(f->mask + PCIE_CAP + PCI_EXP_DEVCTL, 0x7fff);
	put32(f->cfg + PCIE_CAP + PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_16_0GB | 16 << 4);
	put16(f->cfg + PCIE_CAP + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_16_0GB | 16 << 4);
	put32(f->cfg + PCIE_CAP + PCI_EXP_LNKCAP2, PCI_EXP_LNKCAP2_SLS_2_5GB |
	      PCI_EXP_LNKCAP2_SLS_5_0GB | PCI_EXP_LNKCAP2_SLS_8_0GB |
	      PCI_EXP_LNKCAP2_SLS_16_0GB);
}

static void sriov(struct sim_gpu *gpu, struct sim_function *f)
{
	const struct sim_preset *p = gpu->preset;
	u8 *cap = f->cfg + SRIOV_CAP, *mask = f->mask + SRIOV_CAP;

	ext_cap(f, SRIOV_CAP, PCI_EXT_CAP_ID_SRIOV, 0);
	put16(cap + PCI_SRIOV_INITIAL_VF, p->total_vfs);
	put16(cap + PCI_SRIOV_TOTAL_VF, p->total_vfs);
	put16(cap + PCI_SRIOV_VF_OFFSET, SIM_VF_OFFSET);
	put16(cap + PCI_SRIOV_VF_STRIDE, 1);
	put16(cap + PCI_SRIOV_VF_DID, p->vf_device);
	put32(cap + PCI_SRIOV_SUP_PGSIZE, 0x553);
	put32(cap + PCI_SRIOV_SYS_PGSIZE, 1);
	put16(mask + PCI_SRIOV_CTRL, PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE |
	      PCI_SRIOV_CTRL_ARI);
	put16(mask + PCI_SRIOV_NUM_VF, 0xffff);
	put32(mask + PCI_SRIOV_SYS_PGSIZE, ~0);
	bar64(f, SRIOV_CAP + PCI_SRIOV_BAR, SIM_VF_BAR, gpu->window.start + SIM_VF_BARS);
}

static void build_pf(struct sim_gpu *gpu)
{
	const struct sim_preset *p = gpu->preset;
	struct sim_function *f = &gpu->functions[0];

	put16(f->cfg + PCI_VENDOR_ID, p->vendor);
	put16(f->cfg + PCI_DEVICE_ID, p->device);
	common(gpu, f);
	bar64(f, PCI_BASE_ADDRESS_0, SIM_PF_BAR, gpu->window.start);
	ext_cap(f, ARI_CAP, PCI_EXT_CAP_ID_ARI, p->total_vfs ? SRIOV_CAP : 0);
	if (p->total_vfs)
		sriov(gpu, f);
	if (p->audio_device)
		f->cfg[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_MFD;
}

static void build_audio(struct sim_gpu *gpu)
{
	struct sim_function *f = &gpu->functions[1];

	put16(f->cfg + PCI_VENDOR_ID, gpu->preset->vendor);
	put16(f->cfg + PCI_DEVICE_ID, gpu->preset->audio_device);
	common(gpu, f);
	put32(f->cfg + PCI_CLASS_REVISION, PCI_CLASS_MULTIMEDIA_HD_AUDIO << 16);
	bar64(f, PCI_BASE_ADDRESS_0, SIM_VF_BAR, gpu->window.start + SIM_PF_BAR);
	f->cfg[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_MFD;
}

/* A VF as after its reset. Vendor and device read all ones, as the standard wants it. */
void sim_config_vf_reset(struct sim_gpu *gpu, unsigned int vf)
{
	struct sim_function *f = &gpu->functions[2 + vf];

	memset(f->cfg, 0, sizeof(f->cfg));
	memset(f->mask, 0, sizeof(f->mask));
	put32(f->cfg + PCI_VENDOR_ID, ~0);
	common(gpu, f);
	put16(f->mask + PCI_COMMAND, PCI_COMMAND_MASTER);
	ext_cap(f, ARI_CAP, PCI_EXT_CAP_ID_ARI, 0);
}

void sim_config_build(struct sim_gpu *gpu)
{
	unsigned int vf;

	build_pf(gpu);
	if (gpu->preset->audio_device)
		build_audio(gpu);
	for (vf = 0; vf < gpu->preset->total_vfs; vf++)
		sim_config_vf_reset(gpu, vf);
}
