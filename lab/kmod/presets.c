// SPDX-License-Identifier: GPL-2.0
/*
 * The GPUs that can be had. PCI ids are the real boards'. Type ids are those
 * seen on real hosts, but for the C series of the L40S and everything of the
 * H100, whose numbers are ours: programs must read them, not know them.
 */
#include "vgpu_sim.h"

static const struct sim_type t4_types[] = {
	{ 222, "GRID T4-1B", 1024, 16 },
	{ 225, "GRID T4-1A", 1024, 16 },
	{ 226, "GRID T4-2A", 2048, 8 },
	{ 227, "GRID T4-4A", 4096, 4 },
	{ 228, "GRID T4-8A", 8192, 2 },
	{ 229, "GRID T4-16A", 16384, 1 },
	{ 230, "GRID T4-1Q", 1024, 16 },
	{ 231, "GRID T4-2Q", 2048, 8 },
	{ 232, "GRID T4-4Q", 4096, 4 },
	{ 233, "GRID T4-8Q", 8192, 2 },
	{ 234, "GRID T4-16Q", 16384, 1 },
	{ 252, "GRID T4-2B", 2048, 8 },
	{ 319, "GRID T4-4C", 4096, 4 },
	{ 320, "GRID T4-8C", 8192, 2 },
	{ 321, "GRID T4-16C", 16384, 1 },
};

static const struct sim_type a40_types[] = {
	{ 557, "NVIDIA A40-1B", 1024, 32 },
	{ 558, "NVIDIA A40-2B", 2048, 24 },
	{ 559, "NVIDIA A40-1Q", 1024, 32 },
	{ 560, "NVIDIA A40-2Q", 2048, 24 },
	{ 561, "NVIDIA A40-3Q", 3072, 16 },
	{ 562, "NVIDIA A40-4Q", 4096, 12 },
	{ 563, "NVIDIA A40-6Q", 6144, 8 },
	{ 564, "NVIDIA A40-8Q", 8192, 6 },
	{ 565, "NVIDIA A40-12Q", 12288, 4 },
	{ 566, "NVIDIA A40-16Q", 16384, 3 },
	{ 567, "NVIDIA A40-24Q", 24576, 2 },
	{ 568, "NVIDIA A40-48Q", 49152, 1 },
	{ 569, "NVIDIA A40-1A", 1024, 32 },
	{ 570, "NVIDIA A40-2A", 2048, 24 },
	{ 571, "NVIDIA A40-3A", 3072, 16 },
	{ 572, "NVIDIA A40-4A", 4096, 12 },
	{ 573, "NVIDIA A40-6A", 6144, 8 },
	{ 574, "NVIDIA A40-8A", 8192, 6 },
	{ 575, "NVIDIA A40-12A", 12288, 4 },
	{ 576, "NVIDIA A40-16A", 16384, 3 },
	{ 577, "NVIDIA A40-24A", 24576, 2 },
	{ 578, "NVIDIA A40-48A", 49152, 1 },
	{ 579, "NVIDIA A40-4C", 4096, 12 },
	{ 580, "NVIDIA A40-6C", 6144, 8 },
	{ 581, "NVIDIA A40-8C", 8192, 6 },
	{ 582, "NVIDIA A40-12C", 12288, 4 },
	{ 583, "NVIDIA A40-16C", 16384, 3 },
	{ 584, "NVIDIA A40-24C", 24576, 2 },
	{ 585, "NVIDIA A40-48C", 49152, 1 },
};

static const struct sim_type l40s_types[] = {
	{ 1145, "NVIDIA L40S-1B", 1024, 32 },
	{ 1146, "NVIDIA L40S-2B", 2048, 24 },
	{ 1147, "NVIDIA L40S-1Q", 1024, 32 },
	{ 1148, "NVIDIA L40S-2Q", 2048, 24 },
	{ 1149, "NVIDIA L40S-3Q", 3072, 16 },
	{ 1150, "NVIDIA L40S-4Q", 4096, 12 },
	{ 1151, "NVIDIA L40S-6Q", 6144, 8 },
	{ 1152, "NVIDIA L40S-8Q", 8192, 6 },
	{ 1153, "NVIDIA L40S-12Q", 12288, 4 },
	{ 1154, "NVIDIA L40S-16Q", 16384, 3 },
	{ 1155, "NVIDIA L40S-24Q", 24576, 2 },
	{ 1156, "NVIDIA L40S-48Q", 49152, 1 },
	{ 1157, "NVIDIA L40S-1A", 1024, 32 },
	{ 1158, "NVIDIA L40S-2A", 2048, 24 },
	{ 1159, "NVIDIA L40S-3A", 3072, 16 },
	{ 1160, "NVIDIA L40S-4A", 4096, 12 },
	{ 1161, "NVIDIA L40S-6A", 6144, 8 },
	{ 1162, "NVIDIA L40S-8A", 8192, 6 },
	{ 1163, "NVIDIA L40S-12A", 12288, 4 },
	{ 1164, "NVIDIA L40S-16A", 16384, 3 },
	{ 1165, "NVIDIA L40S-24A", 24576, 2 },
	{ 1166, "NVIDIA L40S-48A", 49152, 1 },
	{ 2164, "NVIDIA L40S-3B", 3072, 16 },
	{ 1170, "NVIDIA L40S-4C", 4096, 12 },
	{ 1171, "NVIDIA L40S-6C", 6144, 8 },
	{ 1172, "NVIDIA L40S-8C", 8192, 6 },
	{ 1173, "NVIDIA L40S-12C", 12288, 4 },
	{ 1174, "NVIDIA L40S-16C", 16384, 3 },
	{ 1175, "NVIDIA L40S-24C", 24576, 2 },
	{ 1176, "NVIDIA L40S-48C", 49152, 1 },
};

static const struct sim_type h100_types[] = {
	{ 1130, "NVIDIA H100-4C", 4096, 20 },
	{ 1131, "NVIDIA H100-5C", 5120, 16 },
	{ 1132, "NVIDIA H100-8C", 8192, 10 },
	{ 1133, "NVIDIA H100-10C", 10240, 8 },
	{ 1134, "NVIDIA H100-16C", 16384, 5 },
	{ 1135, "NVIDIA H100-20C", 20480, 4 },
	{ 1136, "NVIDIA H100-40C", 40960, 2 },
	{ 1137, "NVIDIA H100-80C", 81920, 1 },
	{ 1140, "NVIDIA H100-1-10CME", 10240, 1, "1g.10gb+me", 1, 20 },
	{ 1141, "NVIDIA H100-1-10C", 10240, 7, "1g.10gb", 7, 19 },
	{ 1142, "NVIDIA H100-1-20C", 20480, 4, "1g.20gb", 4, 15 },
	{ 1143, "NVIDIA H100-2-20C", 20480, 3, "2g.20gb", 3, 14 },
	{ 1144, "NVIDIA H100-3-40C", 40960, 2, "3g.40gb", 2, 9 },
	{ 1168, "NVIDIA H100-4-40C", 40960, 1, "4g.40gb", 1, 5 },
	{ 1169, "NVIDIA H100-7-80C", 81920, 1, "7g.80gb", 1, 0 },
};

#define TYPES(list) .types = list, .nr_types = ARRAY_SIZE(list)
static_assert(ARRAY_SIZE(l40s_types) <= SIM_MAX_TYPES);
static_assert(ARRAY_SIZE(a40_types) <= SIM_MAX_TYPES);

#define VGA (PCI_CLASS_DISPLAY_VGA << 8)
#define GPU_3D (PCI_CLASS_DISPLAY_3D << 8)

static const struct sim_preset presets[] = {
	{
		.name = "t4", .board = "Tesla T4", .road = ROAD_MDEV_PF, .arch = ARCH_TURING,
		.vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x1eb8, .class = GPU_3D,
		.subvendor = PCI_VENDOR_ID_NVIDIA, .subdevice = 0x12a2,
		.fb_mib = 16384, .region = 16, .discrete = true, TYPES(t4_types),
	},
	{
		.name = "a40-mdev", .board = "NVIDIA A40", .road = ROAD_MDEV_VF,
		.arch = ARCH_AMPERE, .vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x2235,
		.vf_device = 0x2235, .class = GPU_3D, .subvendor = PCI_VENDOR_ID_NVIDIA,
		.subdevice = 0x145a, .total_vfs = 32, .fb_mib = 49152, .region = 48,
		.can_mix = true, .discrete = true, TYPES(a40_types),
	},
	{
		.name = "l40s-vfio", .board = "NVIDIA L40S", .road = ROAD_VFIO,
		.arch = ARCH_ADA, .vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x26b9,
		.vf_device = 0x26b9, .class = GPU_3D, .subvendor = PCI_VENDOR_ID_NVIDIA,
		.subdevice = 0x1851, .total_vfs = 32, .fb_mib = 49152, .region = 48,
		.can_mix = true, .discrete = true, TYPES(l40s_types),
	},
	{
		.name = "h100-vfio", .board = "NVIDIA H100 PCIe", .road = ROAD_VFIO,
		.arch = ARCH_HOPPER, .vendor = PCI_VENDOR_ID_NVIDIA, .device = 0x2331,
		.vf_device = 0x2331, .class = GPU_3D, .subvendor = PCI_VENDOR_ID_NVIDIA,
		.subdevice = 0x1626, .total_vfs = 20, .fb_mib = 81920, .region = 80,
		.can_mix = true, .can_mig = true, .discrete = true, TYPES(h100_types),
	},
	{
		.name = "arc-b", .board = "Intel Arc Pro B60", .road = ROAD_XE,
		.vendor = PCI_VENDOR_ID_INTEL, .device = 0xe211, .vf_device = 0xe211,
		.class = VGA, .subvendor = PCI_VENDOR_ID_INTEL, .subdevice = 0x1114,
		.total_vfs = 24, .fb_mib = 24192, .discrete = true,
	},
	{
		.name = "panther-lake", .board = "Intel Panther Lake", .road = ROAD_XE,
		.vendor = PCI_VENDOR_ID_INTEL, .device = 0xb080, .vf_device = 0xb080,
		.class = VGA, .subvendor = PCI_VENDOR_ID_INTEL, .subdevice = 0x2212,
		.total_vfs = 7,
	},
	{
		.name = "mi", .board = "AMD Instinct MI300X", .road = ROAD_GIM,
		.vendor = PCI_VENDOR_ID_ATI, .device = 0x74a1, .vf_device = 0x74b5,
		.class = 0x120000, .subvendor = PCI_VENDOR_ID_ATI, .subdevice = 0x74a1,
		.total_vfs = 8, .fb_mib = 196608, .discrete = true,
	},
	{
		.name = "gpu", .board = "AMD Radeon RX 6800", .road = ROAD_PLAIN,
		.vendor = PCI_VENDOR_ID_ATI, .device = 0x73bf, .class = VGA,
		.subvendor = PCI_VENDOR_ID_ATI, .subdevice = 0x0e3a, .audio_device = 0xab28,
		.fb_mib = 16384, .discrete = true,
	},
};

const struct sim_preset *sim_preset_find(const char *name, size_t len)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(presets); i++)
		if (strlen(presets[i].name) == len && !strncmp(presets[i].name, name, len))
			return &presets[i];
	return NULL;
}

/* The name of a preset by its place in the list, NULL behind the last. */
const char *sim_preset_at(unsigned int i)
{
	return i < ARRAY_SIZE(presets) ? presets[i].name : NULL;
}

const struct sim_type *sim_type_find(const struct sim_preset *p, unsigned int id)
{
	unsigned int i;

	for (i = 0; i < p->nr_types; i++)
		if (p->types[i].id == id)
			return &p->types[i];
	return NULL;
}
