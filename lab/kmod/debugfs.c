// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/vgpu_sim/<address of the PF>/: "state" and "control" for
 * the lab's stand-ins of NVIDIA's library and tools, "faults" for tests,
 * "placements" to hold against the published tables. An open "session" is a
 * client that holds the GPU.
 */
#include <linux/seq_file.h>
#include "vgpu_sim.h"

static struct dentry *root;

static const char * const schedulers[] = { "best-effort", "equal-share", "fixed-share" };

static void show_types(struct seq_file *s, struct sim_gpu *gpu)
{
	const struct sim_type *type = gpu->preset->types;
	unsigned int i;

	for (i = 0; i < gpu->preset->nr_types; i++, type++) {
		seq_printf(s, "type id=%u fb_mib=%u max=%u gi_profile=", type->id, type->fb_mib,
			   type->max);
		if (type->gi)
			seq_printf(s, "%u gis=%u gi=%s", type->gi_id, type->gis, type->gi);
		else
			seq_putc(s, '-');
		seq_printf(s, " name=%s\n", type->name);
	}
}

static void show_vgpus(struct seq_file *s, struct sim_gpu *gpu)
{
	struct sim_vgpu *vgpu;
	char vf[16];

	list_for_each_entry(vgpu, &gpu->vgpus, node) {
		sim_vf_name(gpu, vgpu->vf, vf, sizeof(vf));
		seq_printf(s, "vgpu id=%u vf=%s type=%u placement=%u vm_uuid=%s running=%d fb_used_mib=%u",
			   vgpu->id, vf, vgpu->type->id, vgpu->placement,
			   vgpu->vm_uuid[0] ? vgpu->vm_uuid : "-", vgpu->running,
			   vgpu->running ? vgpu->type->fb_mib / 4 : 0);
		if (vgpu->has_mdev)
			seq_printf(s, " mdev=%pUl", &vgpu->mdev);
		if (vgpu->gi)
			seq_printf(s, " gi=%u", vgpu->gi);
		if (vgpu->running)
			seq_printf(s, " pid=%d sm=%u mem=%u", vgpu->pid, vgpu->sm, vgpu->mem);
		seq_putc(s, '\n');
	}
}

static int state_show(struct seq_file *s, void *unused)
{
	struct sim_gpu *gpu = s->private;

	mutex_lock(&gpu->lock);
	seq_printf(s, "board=%s\npreset=%s\n", gpu->preset->board, gpu->preset->name);
	if (sim_is_nvidia(gpu))
		seq_printf(s, "uuid=GPU-76677075-7369-4d00-8000-0000000000%02x\n",
			   SIM_BUS(gpu->index));
	seq_printf(s, "framebuffer_mib=%u\nmode=%s\nmig=%d\nscheduler=%s\ntime_slice_ns=%llu\nvfs=%u\ntotal_vfs=%u\n",
		   gpu->preset->fb_mib, gpu->mixed ? "mixed" : "equal", gpu->mig,
		   schedulers[gpu->scheduler], gpu->time_slice_ns, gpu->vfs,
		   gpu->preset->total_vfs);
	if (gpu->process)
		seq_printf(s, "process=%d\n", gpu->process);
	show_types(s, gpu);
	sim_gi_show(s, gpu);
	show_vgpus(s, gpu);
	mutex_unlock(&gpu->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static void show_list(struct seq_file *s, const struct sim_type *type, const char *mode,
		      const struct placement_list *list)
{
	unsigned int i;

	seq_printf(s, "%u %u %s", type->id, sim_type_size(type), mode);
	for (i = 0; i < list->count; i++)
		seq_printf(s, " %u", list->ids[i]);
	seq_putc(s, '\n');
}

/* "TYPE SIZE mixed|equal ID...": all that a mode offers, taken or not. */
static int placements_show(struct seq_file *s, void *unused)
{
	struct sim_gpu *gpu = s->private;
	struct placement_list list;
	unsigned int i;

	for (i = 0; i < gpu->preset->nr_types; i++) {
		const struct sim_type *type = &gpu->preset->types[i];

		if (type->gi)
			continue;
		sim_type_placements(gpu, type, true, &list);
		if (gpu->preset->can_mix)
			show_list(s, type, "mixed", &list);
		sim_type_placements(gpu, type, false, &list);
		show_list(s, type, "equal", &list);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(placements);

static int set_mode(struct sim_gpu *gpu, const char *value)
{
	bool mixed = !strcmp(value, "mixed");

	if (!mixed && strcmp(value, "equal"))
		return -EINVAL;
	if (gpu->mig || !gpu->preset->can_mix || (mixed && !gpu->vfs))
		return -EOPNOTSUPP;
	if (!list_empty(&gpu->vgpus))
		return -EBUSY;
	if (mixed && gpu->scheduler == SCHED_FIXED_SHARE)
		return -EINVAL;
	gpu->mixed = mixed;
	return 0;
}

static int set_mig(struct sim_gpu *gpu, const char *value)
{
	bool mig;
	int ret = kstrtobool(value, &mig);

	if (ret)
		return ret;
	if (!gpu->preset->can_mig)
		return -EOPNOTSUPP;
	if (mig != gpu->mig && (gpu->vfs || gpu->process || sim_gi_any(gpu)))
		return -EBUSY;
	gpu->mig = mig;
	return 0;
}

static int set_scheduler(struct sim_gpu *gpu, const char *value)
{
	int i = match_string(schedulers, ARRAY_SIZE(schedulers), value);

	if (i < 0)
		return -EINVAL;
	if (gpu->mig || !sim_is_nvidia(gpu))
		return -EOPNOTSUPP;
	if (!list_empty(&gpu->vgpus))
		return -EBUSY;
	if (gpu->mixed && i == SCHED_FIXED_SHARE)
		return -EINVAL;
	gpu->scheduler = i;
	return 0;
}

static int set_time_slice(struct sim_gpu *gpu, const char *value)
{
	u64 ns;
	int ret = kstrtou64(value, 10, &ns);

	if (ret)
		return ret;
	if (!list_empty(&gpu->vgpus))
		return -EBUSY;
	if (ns && (ns < NSEC_PER_MSEC || ns > 30 * NSEC_PER_MSEC))
		return -EINVAL;
	gpu->time_slice_ns = ns;
	return 0;
}

/* "PROFILE COUNT" */
static int set_instances(struct sim_gpu *gpu, const char *value)
{
	unsigned int count;
	char profile[24];

	if (sscanf(value, "%23s %u", profile, &count) != 2)
		return -EINVAL;
	return sim_gi_set_count(gpu, profile, count);
}

static int create_instance(struct sim_gpu *gpu, const char *profile)
{
	return min(sim_gi_create(gpu, profile), 0);
}

static int destroy_instance(struct sim_gpu *gpu, const char *value)
{
	unsigned int id;
	int ret = kstrtouint(value, 10, &id);

	return ret ?: sim_gi_destroy(gpu, id);
}

/* A process that computes on the GPU itself, as a test says: 0 ends it. */
static int set_process(struct sim_gpu *gpu, const char *value)
{
	unsigned int pid;
	int ret = kstrtouint(value, 10, &pid);

	if (!ret)
		gpu->process = pid;
	return ret;
}

static struct sim_vgpu *vgpu_named(struct sim_gpu *gpu, const char *vf)
{
	struct sim_vgpu *vgpu;
	char name[16];

	list_for_each_entry(vgpu, &gpu->vgpus, node) {
		sim_vf_name(gpu, vgpu->vf, name, sizeof(name));
		if (!strcmp(name, vf))
			return vgpu;
	}
	return NULL;
}

/* "ADDRESS UUID", "-" for none. */
static int set_vm_uuid(struct sim_gpu *gpu, const char *value)
{
	struct sim_vgpu *vgpu;
	char vf[16], uuid[UUID_STRING_LEN + 1];

	if (sscanf(value, "%15s %36s", vf, uuid) != 2)
		return -EINVAL;
	vgpu = vgpu_named(gpu, vf);
	if (!vgpu)
		return -ENOENT;
	strscpy(vgpu->vm_uuid, strcmp(uuid, "-") ? uuid : "", sizeof(vgpu->vm_uuid));
	return 0;
}

/* "ADDRESS SM MEMORY", in percent: what its guest is said to use. */
static int set_busy(struct sim_gpu *gpu, const char *value)
{
	struct sim_vgpu *vgpu;
	unsigned int sm, mem;
	char vf[16];

	if (sscanf(value, "%15s %u %u", vf, &sm, &mem) != 3 || sm > 100 || mem > 100)
		return -EINVAL;
	vgpu = vgpu_named(gpu, vf);
	if (!vgpu)
		return -ENOENT;
	vgpu->sm = sm;
	vgpu->mem = mem;
	return 0;
}

static int set_numvfs(struct sim_gpu *gpu, const char *value)
{
	unsigned int vfs;
	int ret = kstrtouint(value, 10, &vfs);

	if (ret)
		return ret;
	return sim_is_nvidia(gpu) ? sim_nvidia_set_vfs(gpu, vfs) : -EOPNOTSUPP;
}

static int control(struct sim_gpu *gpu, const char *key, const char *value)
{
	static const struct {
		const char *key;
		int (*set)(struct sim_gpu *gpu, const char *value);
	} keys[] = {
		{ "mode", set_mode }, { "mig", set_mig }, { "scheduler", set_scheduler },
		{ "time_slice_ns", set_time_slice }, { "gi", set_instances },
		{ "gi_create", create_instance }, { "gi_destroy", destroy_instance },
		{ "vm_uuid", set_vm_uuid }, { "busy", set_busy }, { "process", set_process },
	};
	unsigned int i;
	int ret;

	if (!strcmp(key, "numvfs"))
		return set_numvfs(gpu, value);
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(key, keys[i].key))
			continue;
		mutex_lock(&gpu->lock);
		ret = keys[i].set(gpu, value);
		mutex_unlock(&gpu->lock);
		return ret;
	}
	return -EINVAL;
}

static int fault(struct sim_gpu *gpu, const char *key, const char *value)
{
	int ret;

	mutex_lock(&gpu->lock);
	ret = sim_fault_set(gpu, key, value);
	mutex_unlock(&gpu->lock);
	return ret;
}

/* One "key=value" a write. */
static ssize_t write_pair(struct file *file, const char __user *buf, size_t count,
			  int (*set)(struct sim_gpu *, const char *, const char *))
{
	char line[128], *value, *key;
	int ret;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buf, count))
		return -EFAULT;
	line[count] = '\0';
	value = strim(line);
	key = strsep(&value, "=");
	if (!value)
		return -EINVAL;
	ret = set(file->private_data, key, value);
	return ret ?: count;
}

static ssize_t control_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	return write_pair(file, buf, count, control);
}

static ssize_t faults_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	return write_pair(file, buf, count, fault);
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = control_write,
};

static const struct file_operations faults_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = faults_write,
};

static int session_open(struct inode *inode, struct file *file)
{
	struct sim_gpu *gpu = inode->i_private;
	int ret = 0;

	mutex_lock(&gpu->lock);
	if (gpu->unbind_locked)
		ret = -EBUSY;
	else
		atomic_inc(&gpu->sessions);
	mutex_unlock(&gpu->lock);
	file->private_data = gpu;
	return ret;
}

static int session_release(struct inode *inode, struct file *file)
{
	struct sim_gpu *gpu = file->private_data;

	atomic_dec(&gpu->sessions);
	return 0;
}

static const struct file_operations session_fops = {
	.owner = THIS_MODULE,
	.open = session_open,
	.release = session_release,
};

void sim_debugfs_add(struct sim_gpu *gpu)
{
	gpu->debugfs = debugfs_create_dir(gpu->name, root);
	debugfs_create_file("state", 0444, gpu->debugfs, gpu, &state_fops);
	debugfs_create_file("control", 0200, gpu->debugfs, gpu, &control_fops);
	debugfs_create_file("faults", 0200, gpu->debugfs, gpu, &faults_fops);
	debugfs_create_file("placements", 0444, gpu->debugfs, gpu, &placements_fops);
	debugfs_create_file("session", 0444, gpu->debugfs, gpu, &session_fops);
}

void sim_debugfs_init(void)
{
	root = debugfs_create_dir("vgpu_sim", NULL);
}

void sim_debugfs_exit(void)
{
	debugfs_remove(root);
}
