// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/driver/nvidia/gpus/<address>/unbindLock: write 1 and read it back; it
 * reads 1 when the lock was had, 0 while a client holds the GPU.
 */
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include "vgpu_sim.h"

static struct proc_dir_entry *nvidia;

static int lock_show(struct seq_file *s, void *unused)
{
	struct sim_gpu *gpu = s->private;

	seq_printf(s, "%d\n", gpu->unbind_locked);
	return 0;
}

static int lock_open(struct inode *inode, struct file *file)
{
	return single_open(file, lock_show, pde_data(inode));
}

static ssize_t lock_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	struct sim_gpu *gpu = pde_data(file_inode(file));
	bool lock;
	int ret = kstrtobool_from_user(buf, count, &lock);

	if (ret)
		return ret;
	mutex_lock(&gpu->lock);
	gpu->unbind_locked = lock && !atomic_read(&gpu->sessions);
	mutex_unlock(&gpu->lock);
	return count;
}

static const struct proc_ops lock_ops = {
	.proc_open = lock_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
	.proc_write = lock_write,
};

void sim_proc_init(void)
{
	struct proc_dir_entry *gpus, *dir;
	unsigned int i;

	for (i = 0; i < sim_nr_gpus && !sim_is_nvidia(sim_gpus[i]); i++)
		;
	if (i == sim_nr_gpus)
		return;
	nvidia = proc_mkdir("driver/nvidia", NULL);
	gpus = nvidia ? proc_mkdir("gpus", nvidia) : NULL;
	for (i = 0; gpus && i < sim_nr_gpus; i++) {
		if (!sim_is_nvidia(sim_gpus[i]))
			continue;
		dir = proc_mkdir(sim_gpus[i]->name, gpus);
		if (dir)
			proc_create_data("unbindLock", 0644, dir, &lock_ops, sim_gpus[i]);
	}
}

void sim_proc_exit(void)
{
	proc_remove(nvidia);
	nvidia = NULL;
}
