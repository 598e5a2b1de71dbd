// SPDX-License-Identifier: GPL-2.0
/* One mediated device: a small PCI function whose BAR says which vGPU it is. */
#include <linux/vfio.h>
#include "vgpu_sim.h"

#define CONFIG_SIZE	256
#define BAR_SIZE	SIM_VF_BAR
#define REGION(index)	((u64)(index) << 40)

struct sim_mdev {
	struct vfio_device vdev;
	struct mutex lock;
	struct sim_gpu *gpu;
	struct sim_vgpu *vgpu;
	u8 config[CONFIG_SIZE];
	char identity[SIM_IDENTITY];
};

static struct sim_mdev *to_sim(struct vfio_device *vdev)
{
	return container_of(vdev, struct sim_mdev, vdev);
}

static void build_config(struct sim_mdev *m)
{
	const struct sim_preset *p = m->gpu->preset;

	put_unaligned_le16(p->vendor, m->config + PCI_VENDOR_ID);
	put_unaligned_le16(p->device, m->config + PCI_DEVICE_ID);
	put_unaligned_le32(p->class << 8 | 0xa1, m->config + PCI_CLASS_REVISION);
	put_unaligned_le16(p->subvendor, m->config + PCI_SUBSYSTEM_VENDOR_ID);
	/* Each type has a subsystem id of its own. */
	put_unaligned_le16(m->vgpu->type->id, m->config + PCI_SUBSYSTEM_ID);
}

static void write_config(struct sim_mdev *m, unsigned int at, u8 value)
{
	if (at == PCI_COMMAND)
		m->config[at] = value & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	else if (at == PCI_INTERRUPT_LINE || at == PCI_CACHE_LINE_SIZE)
		m->config[at] = value;
	else if (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_1)
		m->config[at] = value & (~(BAR_SIZE - 1) >> (8 * (at - PCI_BASE_ADDRESS_0)));
}

static int access_byte(struct sim_mdev *m, u64 pos, u8 *value, bool write)
{
	u64 config = REGION(VFIO_PCI_CONFIG_REGION_INDEX);

	if (pos >= config && pos < config + CONFIG_SIZE) {
		if (write)
			write_config(m, pos - config, *value);
		else
			*value = m->config[pos - config];
		return 0;
	}
	if (pos < BAR_SIZE) {
		if (!write)
			*value = pos < sizeof(m->identity) ? m->identity[pos] : 0;
		return 0;
	}
	return -EINVAL;
}

/* QEMU insists on the full length. */
static ssize_t sim_mdev_read(struct vfio_device *vdev, char __user *buf, size_t count,
			     loff_t *ppos)
{
	struct sim_mdev *m = to_sim(vdev);
	size_t done;
	int ret = 0;
	u8 value;

	mutex_lock(&m->lock);
	for (done = 0; done < count && !ret; done++) {
		ret = access_byte(m, *ppos + done, &value, false);
		if (!ret && put_user(value, (u8 __user *)buf + done))
			ret = -EFAULT;
	}
	mutex_unlock(&m->lock);
	*ppos += count;
	return ret ?: count;
}

static ssize_t sim_mdev_write(struct vfio_device *vdev, const char __user *buf, size_t count,
			      loff_t *ppos)
{
	struct sim_mdev *m = to_sim(vdev);
	size_t done;
	int ret = 0;
	u8 value;

	mutex_lock(&m->lock);
	for (done = 0; done < count && !ret; done++) {
		if (get_user(value, (const u8 __user *)buf + done))
			ret = -EFAULT;
		else
			ret = access_byte(m, *ppos + done, &value, true);
	}
	mutex_unlock(&m->lock);
	*ppos += count;
	return ret ?: count;
}

static long get_info(void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long get_region_info(void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info.offset = REGION(info.index);
	info.size = 0;
	if (info.index == VFIO_PCI_CONFIG_REGION_INDEX)
		info.size = CONFIG_SIZE;
	else if (info.index == VFIO_PCI_BAR0_REGION_INDEX)
		info.size = BAR_SIZE;
	info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long get_irq_info(void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long sim_mdev_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return get_info((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region_info((void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq_info((void __user *)arg);
	case VFIO_DEVICE_SET_IRQS:
		return -EINVAL;
	case VFIO_DEVICE_RESET:
		return 0;
	}
	return -ENOTTY;
}

static int sim_mdev_open(struct vfio_device *vdev)
{
	struct sim_mdev *m = to_sim(vdev);
	int ret;

	mutex_lock(&m->gpu->lock);
	ret = sim_vgpu_start(m->gpu, m->vgpu);
	if (!ret)
		sim_vgpu_describe(m->gpu, m->vgpu, m->identity);
	mutex_unlock(&m->gpu->lock);
	return ret;
}

static void sim_mdev_close(struct vfio_device *vdev)
{
	struct sim_mdev *m = to_sim(vdev);

	mutex_lock(&m->gpu->lock);
	m->vgpu->running = false;
	m->vgpu->vm_uuid[0] = '\0';
	mutex_unlock(&m->gpu->lock);
}

static int sim_mdev_init_dev(struct vfio_device *vdev)
{
	mutex_init(&to_sim(vdev)->lock);
	return 0;
}

static const struct vfio_device_ops sim_mdev_ops = {
	.name = "nvidia-vgpu-vfio",
	.init = sim_mdev_init_dev,
	.open_device = sim_mdev_open,
	.close_device = sim_mdev_close,
	.read = sim_mdev_read,
	.write = sim_mdev_write,
	.ioctl = sim_mdev_ioctl,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static struct sim_vgpu *create(struct sim_gpu *gpu, const struct sim_type *type, int vf,
			       const guid_t *uuid)
{
	struct sim_vgpu *vgpu;

	mutex_lock(&gpu->lock);
	if (sim_vgpu_of_vf(gpu, vf))
		vgpu = ERR_PTR(-ENOSPC);
	else
		vgpu = sim_vgpu_create(gpu, type, vf, uuid);
	mutex_unlock(&gpu->lock);
	return vgpu;
}

static void destroy(struct sim_gpu *gpu, struct sim_vgpu *vgpu)
{
	mutex_lock(&gpu->lock);
	sim_vgpu_destroy(gpu, vgpu);
	mutex_unlock(&gpu->lock);
}

static int sim_mdev_probe(struct mdev_device *mdev)
{
	const struct sim_type *type;
	struct sim_vgpu *vgpu;
	struct sim_mdev *m;
	struct sim_gpu *gpu;
	int vf, ret;

	gpu = sim_mdev_gpu(mdev->type, &vf, &type);
	ret = sim_fault_write(gpu);
	if (ret)
		return ret;
	vgpu = create(gpu, type, vf, &mdev->uuid);
	if (IS_ERR(vgpu))
		return PTR_ERR(vgpu);
	m = vfio_alloc_device(sim_mdev, vdev, &mdev->dev, &sim_mdev_ops);
	if (IS_ERR(m)) {
		destroy(gpu, vgpu);
		return PTR_ERR(m);
	}
	m->gpu = gpu;
	m->vgpu = vgpu;
	build_config(m);
	dev_set_drvdata(&mdev->dev, m);
	ret = vfio_register_emulated_iommu_dev(&m->vdev);
	if (ret) {
		vfio_put_device(&m->vdev);
		destroy(gpu, vgpu);
	}
	return ret;
}

/* Waits for the guest, as the real one does. */
static void sim_mdev_remove(struct mdev_device *mdev)
{
	struct sim_mdev *m = dev_get_drvdata(&mdev->dev);
	struct sim_gpu *gpu = m->gpu;
	struct sim_vgpu *vgpu = m->vgpu;

	sim_fault_hang(gpu);
	vfio_unregister_group_dev(&m->vdev);
	vfio_put_device(&m->vdev);
	destroy(gpu, vgpu);
}

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sim_mdev *m = dev_get_drvdata(dev);
	ssize_t len;

	mutex_lock(&m->gpu->lock);
	len = sysfs_emit(buf, "%s\n", m->vgpu->params);
	mutex_unlock(&m->gpu->lock);
	return len;
}

static ssize_t vgpu_params_store(struct device *dev, struct device_attribute *attr,
				 const char *buf, size_t count)
{
	struct sim_mdev *m = dev_get_drvdata(dev);
	int ret = sim_fault_write(m->gpu);

	if (ret)
		return ret;
	mutex_lock(&m->gpu->lock);
	ret = sim_vgpu_set_params(m->gpu, m->vgpu, buf, count);
	mutex_unlock(&m->gpu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_RW(vgpu_params);

static ssize_t vm_name_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sim_mdev *m = dev_get_drvdata(dev);
	ssize_t len;

	mutex_lock(&m->gpu->lock);
	len = sysfs_emit(buf, "%s\n", m->vgpu->vm_uuid);
	mutex_unlock(&m->gpu->lock);
	return len;
}
static DEVICE_ATTR_RO(vm_name);

static ssize_t placement_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sim_mdev *m = dev_get_drvdata(dev);

	if (!m->gpu->mixed)
		return sysfs_emit(buf, "Not Applicable\n");
	return sysfs_emit(buf, "%u\n", m->vgpu->placement);
}
static DEVICE_ATTR_RO(placement_id);

static ssize_t gpu_instance_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "Not Applicable\n");
}
static DEVICE_ATTR_RO(gpu_instance_id);

static struct attribute *sim_mdev_attrs[] = {
	&dev_attr_vgpu_params.attr,
	&dev_attr_vm_name.attr,
	&dev_attr_placement_id.attr,
	&dev_attr_gpu_instance_id.attr,
	NULL
};

static const struct attribute_group sim_mdev_group = {
	.name = "nvidia",
	.attrs = sim_mdev_attrs,
};

static const struct attribute_group *sim_mdev_groups[] = { &sim_mdev_group, NULL };

struct mdev_driver sim_mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = sim_mdev_probe,
	.remove = sim_mdev_remove,
	.get_available = sim_mdev_available,
	.show_description = sim_mdev_description,
	.driver = {
		.name = "nvidia-vgpu-vfio",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = sim_mdev_groups,
	},
};
