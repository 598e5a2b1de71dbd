// SPDX-License-Identifier: GPL-2.0
/*
 * The vGPUs of an NVIDIA GPU: which type can still be created, where it is
 * placed, what it costs. Creating takes the capacity; starting a guest takes
 * nothing more. Callers hold gpu->lock.
 */
#include "vgpu_sim.h"

#define RM_INSUFFICIENT	0x1a
#define RM_INVALID_OP	0x38

/* Nominal GB: what placement counts in. */
unsigned int sim_type_size(const struct sim_type *type)
{
	return DIV_ROUND_UP(type->fb_mib, 1024);
}

void sim_type_placements(struct sim_gpu *gpu, const struct sim_type *type, bool mixed,
			 struct placement_list *out)
{
	const struct sim_preset *p = gpu->preset;

	if (mixed)
		placement_mixed(p->arch, p->region, sim_type_size(type), type->max, out);
	else
		placement_equal(sim_type_size(type), type->max, out);
}

static unsigned int count_size(struct sim_gpu *gpu, unsigned int fb_mib, bool others)
{
	struct sim_vgpu *vgpu;
	unsigned int n = 0;

	list_for_each_entry(vgpu, &gpu->vgpus, node)
		n += (vgpu->type->fb_mib == fb_mib) != others;
	return n;
}

static bool is_free(struct sim_gpu *gpu, unsigned int id, unsigned int size,
		    const struct sim_vgpu *except)
{
	struct sim_vgpu *vgpu;

	list_for_each_entry(vgpu, &gpu->vgpus, node)
		if (vgpu != except && placement_overlap(id, size, vgpu->placement,
							sim_type_size(vgpu->type)))
			return false;
	return true;
}

/* The lowest id where the type fits; -ENOSPC where none is. */
static int first_placement(struct sim_gpu *gpu, const struct sim_type *type)
{
	struct placement_list list;
	unsigned int i;

	sim_type_placements(gpu, type, gpu->mixed, &list);
	for (i = 0; i < list.count; i++)
		if (is_free(gpu, list.ids[i], sim_type_size(type), NULL))
			return list.ids[i];
	return -ENOSPC;
}

/* In MIG mode each instance of the type's profile carries one vGPU. */
static bool mig_creatable(struct sim_gpu *gpu, const struct sim_type *type)
{
	struct sim_vgpu *vgpu;
	unsigned int used = 0;

	list_for_each_entry(vgpu, &gpu->vgpus, node)
		used += vgpu->type == type;
	return used < sim_gi_count(gpu, type);
}

bool sim_vgpu_creatable(struct sim_gpu *gpu, const struct sim_type *type)
{
	if (gpu->mig != !!type->gi)
		return false;
	if (gpu->mig)
		return mig_creatable(gpu, type);
	if (!gpu->mixed && count_size(gpu, type->fb_mib, true))
		return false;
	return first_placement(gpu, type) >= 0;
}

/* How many more; for types on the PF, where one parent has them all. */
unsigned int sim_vgpu_available(struct sim_gpu *gpu, const struct sim_type *type)
{
	if (!sim_vgpu_creatable(gpu, type))
		return 0;
	return type->max - count_size(gpu, type->fb_mib, false);
}

struct sim_vgpu *sim_vgpu_of_vf(struct sim_gpu *gpu, int vf)
{
	struct sim_vgpu *vgpu;

	list_for_each_entry(vgpu, &gpu->vgpus, node)
		if (vgpu->vf == vf && vf >= 0)
			return vgpu;
	return NULL;
}

void sim_vgpu_describe(struct sim_gpu *gpu, struct sim_vgpu *vgpu, char *buf)
{
	char vf[16];

	sim_vf_name(gpu, vgpu->vf, vf, sizeof(vf));
	scnprintf(buf, SIM_IDENTITY,
		  "VGPU-SIM preset=%s pf=%s vf=%s vgpu=%u type=%u placement=%u fb_mib=%u mdev=%pUl name=%s",
		  gpu->preset->name, gpu->name, vf, vgpu->id, vgpu->type->id, vgpu->placement,
		  vgpu->type->fb_mib, &vgpu->mdev, vgpu->type->name);
}

static void identify(struct sim_gpu *gpu, struct sim_vgpu *vgpu)
{
	char text[SIM_IDENTITY];

	if (vgpu->has_mdev)
		return;
	sim_vgpu_describe(gpu, vgpu, text);
	sim_identity(gpu, vgpu->vf, text);
}

struct sim_vgpu *sim_vgpu_create(struct sim_gpu *gpu, const struct sim_type *type, int vf,
				 const guid_t *mdev)
{
	bool misfit = gpu->mig != !!type->gi;
	struct sim_vgpu *vgpu;

	if (!sim_vgpu_creatable(gpu, type)) {
		pr_info("NVRM: %s: Failed to add vgpu create request: 0x%x\n", gpu->name,
			misfit || gpu->mig ? RM_INVALID_OP : RM_INSUFFICIENT);
		return ERR_PTR(-ENOSPC);
	}
	vgpu = kzalloc(sizeof(*vgpu), GFP_KERNEL);
	if (!vgpu)
		return ERR_PTR(-ENOMEM);
	vgpu->id = gpu->next_id++;
	vgpu->type = type;
	vgpu->vf = vf;
	vgpu->placement = gpu->mig ? 0 : first_placement(gpu, type);
	vgpu->gi = gpu->mig ? sim_gi_free(gpu, type) : 0;
	if (mdev) {
		vgpu->mdev = *mdev;
		vgpu->has_mdev = true;
	}
	list_add_tail(&vgpu->node, &gpu->vgpus);
	identify(gpu, vgpu);
	return vgpu;
}

void sim_vgpu_destroy(struct sim_gpu *gpu, struct sim_vgpu *vgpu)
{
	if (!vgpu->has_mdev)
		sim_identity(gpu, vgpu->vf, "");
	list_del(&vgpu->node);
	kfree(vgpu);
}

void sim_vgpu_destroy_all(struct sim_gpu *gpu)
{
	struct sim_vgpu *vgpu, *next;

	list_for_each_entry_safe(vgpu, next, &gpu->vgpus, node)
		sim_vgpu_destroy(gpu, vgpu);
}

bool sim_vgpu_running(struct sim_gpu *gpu)
{
	struct sim_vgpu *vgpu;

	list_for_each_entry(vgpu, &gpu->vgpus, node)
		if (vgpu->running)
			return true;
	return false;
}

/* Moves a vGPU that is not in use. */
int sim_vgpu_place(struct sim_gpu *gpu, struct sim_vgpu *vgpu, unsigned int id)
{
	struct placement_list list;
	unsigned int i;

	if (vgpu->running)
		return -EBUSY;
	if (gpu->mig)
		return -EOPNOTSUPP;
	sim_type_placements(gpu, vgpu->type, gpu->mixed, &list);
	for (i = 0; i < list.count; i++)
		if (list.ids[i] == id)
			break;
	if (i == list.count)
		return -EINVAL;
	if (!is_free(gpu, id, sim_type_size(vgpu->type), vgpu))
		return -EBUSY;
	vgpu->placement = id;
	identify(gpu, vgpu);
	return 0;
}

/* "key=value,key=value"; a single space clears. Only the form is checked here. */
int sim_vgpu_set_params(struct sim_gpu *gpu, struct sim_vgpu *vgpu, const char *buf,
			size_t count)
{
	size_t len = count && buf[count - 1] == '\n' ? count - 1 : count;
	const char *at = buf;

	if (vgpu->running)
		return -EPERM;
	if (len >= sizeof(vgpu->params))
		return -EINVAL;
	if (len == 1 && buf[0] == ' ') {
		vgpu->params[0] = '\0';
		return 0;
	}
	while (at < buf + len) {
		size_t item = min_t(size_t, strcspn(at, ","), buf + len - at);

		if (!memchr(at, '=', item) || *at == '=')
			return -EINVAL;
		at += item + 1;
	}
	memcpy(vgpu->params, buf, len);
	vgpu->params[len] = '\0';
	return 0;
}

/* At the start of a guest: a wished placement that cannot be had stops it here. */
int sim_vgpu_start(struct sim_gpu *gpu, struct sim_vgpu *vgpu)
{
	static const char key[] = "vgpu-placement-id=";
	const char *wish = strstr(vgpu->params, key);
	unsigned int id;
	int ret;

	if (wish) {
		if (sscanf(wish + sizeof(key) - 1, "%u", &id) != 1)
			return -EINVAL;
		ret = sim_vgpu_place(gpu, vgpu, id);
		if (ret) {
			pr_info("vmiop_log: vGPU %u: placement id %u cannot be had: %d\n",
				vgpu->id, id, ret);
			return ret;
		}
	}
	vgpu->running = true;
	vgpu->pid = task_tgid_nr(current);
	return 0;
}
