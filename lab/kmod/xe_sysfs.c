// SPDX-License-Identifier: GPL-2.0
/* xe's sriov_admin/: the tree of Documentation/ABI/testing/sysfs-driver-intel-xe-sriov. */
#include "vgpu_sim.h"

struct node_attr {
	struct attribute attr;
	ssize_t (*show)(struct sim_xe_node *node, char *buf);
	int (*store)(struct sim_xe_node *node, const char *buf);
};

static struct sim_xe_node *to_node(struct kobject *kobj)
{
	return container_of(kobj, struct sim_xe_node, kobj);
}

static ssize_t node_show(struct kobject *kobj, struct attribute *attr, char *buf)
{
	struct node_attr *a = container_of(attr, struct node_attr, attr);

	return a->show ? a->show(to_node(kobj), buf) : -EIO;
}

static ssize_t node_store(struct kobject *kobj, struct attribute *attr, const char *buf,
			  size_t count)
{
	struct node_attr *a = container_of(attr, struct node_attr, attr);
	struct sim_xe_node *node = to_node(kobj);
	int ret;

	if (!a->store)
		return -EIO;
	ret = sim_fault_write(node->gpu);
	if (ret)
		return ret;
	mutex_lock(&node->gpu->lock);
	ret = a->store(node, buf);
	if (!ret && node->id)
		sim_xe_identify(node->gpu, node);
	mutex_unlock(&node->gpu->lock);
	return ret ?: count;
}

static const struct sysfs_ops node_ops = { .show = node_show, .store = node_store };

static ssize_t quantum_show(struct sim_xe_node *node, char *buf)
{
	return sysfs_emit(buf, "%u\n", node->exec_quantum_ms);
}

static int quantum_store(struct sim_xe_node *node, const char *buf)
{
	return kstrtouint(buf, 0, &node->exec_quantum_ms);
}

static ssize_t preempt_show(struct sim_xe_node *node, char *buf)
{
	return sysfs_emit(buf, "%u\n", node->preempt_timeout_us);
}

static int preempt_store(struct sim_xe_node *node, const char *buf)
{
	return kstrtouint(buf, 0, &node->preempt_timeout_us);
}

static const char * const priorities[] = { "low", "normal", "high" };

static ssize_t priority_show(struct sim_xe_node *node, char *buf)
{
	int at = 0, i, n = node->id ? 2 : 3;

	for (i = 0; i < n; i++)
		at += sysfs_emit_at(buf, at, i == node->priority ? "%s[%s]" : "%s%s",
				    i ? " " : "", priorities[i]);
	return at + sysfs_emit_at(buf, at, "\n");
}

static int priority_store(struct sim_xe_node *node, const char *buf)
{
	int i = sysfs_match_string(priorities, buf);

	if (i < 0)
		return i;
	node->priority = i;
	return 0;
}

static ssize_t vram_show(struct sim_xe_node *node, char *buf)
{
	return sysfs_emit(buf, "%llu\n", node->vram_quota);
}

static int vram_store(struct sim_xe_node *node, const char *buf)
{
	u64 bytes;
	int ret = kstrtou64(buf, 0, &bytes);

	return ret ?: sim_xe_set_vram(node->gpu, node, bytes);
}

static int stop_store(struct sim_xe_node *node, const char *buf)
{
	bool stop;
	int ret = kstrtobool(buf, &stop);

	if (ret)
		return ret;
	if (node->id > node->gpu->vfs)
		return -ENODEV;
	if (stop)
		WRITE_ONCE(node->stopped, true);
	return 0;
}

#define NODE_ATTR(var, file, perm, read, write) \
	static struct node_attr var = { { .name = file, .mode = perm }, read, write }

NODE_ATTR(quantum, "exec_quantum_ms", 0644, quantum_show, quantum_store);
NODE_ATTR(preempt, "preempt_timeout_us", 0644, preempt_show, preempt_store);
NODE_ATTR(priority, "sched_priority", 0644, priority_show, priority_store);
NODE_ATTR(vram, "vram_quota", 0644, vram_show, vram_store);
NODE_ATTR(stop, "stop", 0200, NULL, stop_store);

static struct attribute *profile_attrs[] = {
	&quantum.attr, &preempt.attr, &priority.attr, &vram.attr, NULL
};

static umode_t profile_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	struct sim_xe_node *node = to_node(kobj);

	if (attr == &vram.attr && (!node->id || !node->gpu->preset->discrete))
		return 0;
	/* Firmware changes one VF's priority only together with all others'. */
	if (attr == &priority.attr && node->id)
		return 0444;
	return attr->mode;
}

static const struct attribute_group profile_group = {
	.name = "profile",
	.attrs = profile_attrs,
	.is_visible = profile_visible,
};

static struct attribute *vf_attrs[] = { &stop.attr, NULL };

static umode_t vf_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	return to_node(kobj)->id ? attr->mode : 0;
}

static const struct attribute_group vf_group = {
	.attrs = vf_attrs,
	.is_visible = vf_visible,
};

static const struct attribute_group *node_groups[] = { &vf_group, &profile_group, NULL };

/* .bulk_profile: one value for the PF and all VFs. */

static int bulk_each(struct sim_xe_node *bulk, unsigned int first,
		     int (*store)(struct sim_xe_node *, const char *), const char *buf)
{
	unsigned int i;
	int ret = 0;

	for (i = first; i <= bulk->gpu->preset->total_vfs && !ret; i++) {
		ret = store(bulk->gpu->xe->nodes[i], buf);
		sim_xe_identify(bulk->gpu, bulk->gpu->xe->nodes[i]);
	}
	return ret;
}

static int bulk_quantum_store(struct sim_xe_node *bulk, const char *buf)
{
	return bulk_each(bulk, 0, quantum_store, buf);
}

static int bulk_preempt_store(struct sim_xe_node *bulk, const char *buf)
{
	return bulk_each(bulk, 0, preempt_store, buf);
}

static int bulk_priority_store(struct sim_xe_node *bulk, const char *buf)
{
	if (sysfs_streq(buf, "high"))
		return -EINVAL;
	return bulk_each(bulk, 0, priority_store, buf);
}

static int bulk_vram_store(struct sim_xe_node *bulk, const char *buf)
{
	struct sim_gpu *gpu = bulk->gpu;
	u64 bytes;
	int ret = kstrtou64(buf, 0, &bytes);

	if (ret)
		return ret;
	if (bytes > div_u64(sim_xe_vram_total(gpu), gpu->preset->total_vfs))
		return -ENOSPC;
	/* Through zero, so that no VF's old quota is in the way of another's new one. */
	ret = bulk_each(bulk, 1, vram_store, "0");
	return ret ?: bulk_each(bulk, 1, vram_store, buf);
}

NODE_ATTR(bulk_quantum, "exec_quantum_ms", 0200, NULL, bulk_quantum_store);
NODE_ATTR(bulk_preempt, "preempt_timeout_us", 0200, NULL, bulk_preempt_store);
NODE_ATTR(bulk_priority, "sched_priority", 0200, NULL, bulk_priority_store);
NODE_ATTR(bulk_vram, "vram_quota", 0200, NULL, bulk_vram_store);

static struct attribute *bulk_attrs[] = {
	&bulk_quantum.attr, &bulk_preempt.attr, &bulk_priority.attr, &bulk_vram.attr, NULL
};

static umode_t bulk_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	if (attr == &bulk_vram.attr && !to_node(kobj)->gpu->preset->discrete)
		return 0;
	return attr->mode;
}

static const struct attribute_group bulk_group = {
	.attrs = bulk_attrs,
	.is_visible = bulk_visible,
};

static const struct attribute_group *bulk_groups[] = { &bulk_group, NULL };

static void node_release(struct kobject *kobj)
{
	kfree(to_node(kobj));
}

static const struct kobj_type node_type = {
	.release = node_release,
	.sysfs_ops = &node_ops,
	.default_groups = node_groups,
};

static const struct kobj_type bulk_type = {
	.release = node_release,
	.sysfs_ops = &node_ops,
	.default_groups = bulk_groups,
};

static struct sim_xe_node *node_add(struct sim_gpu *gpu, const struct kobj_type *type,
				    unsigned int id, const char *name)
{
	struct sim_xe_node *node = kzalloc(sizeof(*node), GFP_KERNEL);
	int ret;

	if (!node)
		return ERR_PTR(-ENOMEM);
	node->gpu = gpu;
	node->id = id;
	ret = kobject_init_and_add(&node->kobj, type, gpu->xe->admin, "%s", name);
	if (ret) {
		kobject_put(&node->kobj);
		return ERR_PTR(ret);
	}
	return node;
}

static int add_all(struct sim_gpu *gpu)
{
	struct sim_xe_node *node;
	char name[8] = "pf";
	unsigned int i;

	for (i = 0; i <= gpu->preset->total_vfs; i++) {
		if (i)
			snprintf(name, sizeof(name), "vf%u", i);
		node = node_add(gpu, &node_type, i, name);
		if (IS_ERR(node))
			return PTR_ERR(node);
		gpu->xe->nodes[i] = node;
	}
	node = node_add(gpu, &bulk_type, 0, ".bulk_profile");
	if (IS_ERR(node))
		return PTR_ERR(node);
	gpu->xe->bulk = node;
	return sysfs_create_link(&gpu->xe->nodes[0]->kobj, &gpu->pdev->dev.kobj, "device");
}

int sim_xe_sysfs_add(struct sim_gpu *gpu)
{
	struct sim_xe *xe = kzalloc(sizeof(*xe), GFP_KERNEL);
	int ret;

	if (!xe)
		return -ENOMEM;
	xe->admin = kobject_create_and_add("sriov_admin", &gpu->pdev->dev.kobj);
	if (!xe->admin) {
		kfree(xe);
		return -ENOMEM;
	}
	gpu->xe = xe;
	ret = add_all(gpu);
	if (ret)
		sim_xe_sysfs_remove(gpu);
	return ret;
}

void sim_xe_sysfs_remove(struct sim_gpu *gpu)
{
	struct sim_xe *xe = gpu->xe;
	unsigned long flags;
	unsigned int i;

	/* A reset of a VF looks at it under this lock. */
	spin_lock_irqsave(&gpu->cfg_lock, flags);
	gpu->xe = NULL;
	spin_unlock_irqrestore(&gpu->cfg_lock, flags);
	if (!xe)
		return;
	for (i = 0; i <= gpu->preset->total_vfs; i++)
		if (xe->nodes[i])
			kobject_del(&xe->nodes[i]->kobj);
	if (xe->bulk)
		kobject_del(&xe->bulk->kobj);
	for (i = 0; i <= gpu->preset->total_vfs; i++)
		if (xe->nodes[i])
			kobject_put(&xe->nodes[i]->kobj);
	if (xe->bulk)
		kobject_put(&xe->bulk->kobj);
	kobject_put(xe->admin);
	kfree(xe);
}

/* vfN/device is there while the VF is. */
void sim_xe_sysfs_link(struct sim_gpu *gpu)
{
	unsigned int i;

	for (i = 1; i <= gpu->vfs; i++) {
		struct pci_dev *vf = pci_get_domain_bus_and_slot(0, SIM_BUS(gpu->index),
								 SIM_VF_OFFSET + i - 1);

		if (vf && sysfs_create_link(&gpu->xe->nodes[i]->kobj, &vf->dev.kobj, "device"))
			pci_info(vf, "no link from sriov_admin\n");
		pci_dev_put(vf);
	}
}

void sim_xe_sysfs_unlink(struct sim_gpu *gpu)
{
	unsigned int i;

	for (i = 1; i <= gpu->vfs; i++)
		sysfs_remove_link(&gpu->xe->nodes[i]->kobj, "device");
}
