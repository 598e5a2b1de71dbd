// SPDX-License-Identifier: GPL-2.0
/* Faults on demand. */
#include "vgpu_sim.h"

/* Whether this write fails: the nth from when the fault was set. */
int sim_fault_write(struct sim_gpu *gpu)
{
	struct sim_faults *f = &gpu->faults;
	int ret = 0;

	mutex_lock(&gpu->lock);
	if (f->fail_in && !--f->fail_in)
		ret = f->fail_errno;
	mutex_unlock(&gpu->lock);
	return ret;
}

/*
 * Sleeps in state D while the fault is set. It wakes now and then, or the
 * kernel would warn of a hung task.
 */
void sim_fault_hang(struct sim_gpu *gpu)
{
	while (READ_ONCE(gpu->faults.hang_remove))
		wait_event_timeout(gpu->unhang, !READ_ONCE(gpu->faults.hang_remove), 5 * HZ);
}

static void vanish_fn(struct work_struct *work)
{
	sim_bus_vanish(container_of(work, struct sim_gpu, vanish_work));
}

/* The PF's driver lets go and comes back; what it had made is gone. */
static void reset_fn(struct work_struct *work)
{
	struct sim_gpu *gpu = container_of(work, struct sim_gpu, reset_work);
	struct pci_dev *pdev = pci_get_domain_bus_and_slot(0, SIM_BUS(gpu->index), 0);

	if (!pdev)
		return;
	device_release_driver(&pdev->dev);
	if (device_attach(&pdev->dev) < 0)
		pci_info(pdev, "no driver after the reset\n");
	pci_dev_put(pdev);
}

static void return_fn(struct work_struct *work)
{
	sim_bus_return(container_of(work, struct sim_gpu, return_work));
}

static int set_fail(struct sim_gpu *gpu, const char *value)
{
	static const struct { const char *name; int errno; } names[] = {
		{ "EIO", -EIO }, { "EBUSY", -EBUSY }, { "ENOSPC", -ENOSPC },
		{ "EPERM", -EPERM }, { "EINVAL", -EINVAL },
	};
	const char *at = strchr(value, '@');
	unsigned int i, n;
	int ret;

	if (!strcmp(value, "off")) {
		gpu->faults.fail_in = 0;
		return 0;
	}
	ret = at ? kstrtouint(at + 1, 10, &n) : -EINVAL;
	if (ret)
		return ret;
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == at - value &&
		    !strncmp(value, names[i].name, at - value)) {
			gpu->faults.fail_errno = names[i].errno;
			gpu->faults.fail_in = n;
			return 0;
		}
	return -EINVAL;
}

static int set_late(struct sim_gpu *gpu, const char *value)
{
	gpu->faults.types_late = false;
	if (!strcmp(value, "off"))
		return 0;
	gpu->faults.types_late = true;
	return kstrtouint(value, 10, &gpu->faults.late_types_ms);
}

static int set_hang(struct sim_gpu *gpu, const char *value)
{
	bool hang;
	int ret = kstrtobool(value, &hang);

	if (ret)
		return ret;
	WRITE_ONCE(gpu->faults.hang_remove, hang);
	wake_up_all(&gpu->unhang);
	return 0;
}

/* Under gpu->lock. What may wait for a guest is left to a worker. */
int sim_fault_set(struct sim_gpu *gpu, const char *key, const char *value)
{
	if (!strcmp(key, "fail"))
		return set_fail(gpu, value);
	if (!strcmp(key, "late_types_ms"))
		return set_late(gpu, value);
	if (!strcmp(key, "hang_remove"))
		return set_hang(gpu, value);
	if (strcmp(value, "1"))
		return -EINVAL;
	if (!strcmp(key, "vanish"))
		queue_work(system_unbound_wq, &gpu->vanish_work);
	else if (!strcmp(key, "return"))
		queue_work(system_unbound_wq, &gpu->return_work);
	else if (!strcmp(key, "reset"))
		queue_work(system_unbound_wq, &gpu->reset_work);
	else
		return -EINVAL;
	return 0;
}

void sim_faults_init(struct sim_gpu *gpu)
{
	init_waitqueue_head(&gpu->unhang);
	INIT_WORK(&gpu->vanish_work, vanish_fn);
	INIT_WORK(&gpu->reset_work, reset_fn);
	INIT_WORK(&gpu->return_work, return_fn);
}

/* Nothing hangs and nothing is under way any more. */
void sim_faults_stop(struct sim_gpu *gpu)
{
	WRITE_ONCE(gpu->faults.hang_remove, false);
	wake_up_all(&gpu->unhang);
	flush_work(&gpu->vanish_work);
	flush_work(&gpu->reset_work);
	flush_work(&gpu->return_work);
}
