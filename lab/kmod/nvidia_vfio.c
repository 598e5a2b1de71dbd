// SPDX-License-Identifier: GPL-2.0
/*
 * NVIDIA's vendor-specific VFIO: the VF stays with "nvidia", which is its VFIO
 * driver; a type number written into nvidia/current_vgpu_type makes the vGPU.
 */
#include <linux/jiffies.h>
#include <linux/vfio_pci_core.h>
#include "vgpu_sim.h"

struct sim_vf {
	struct vfio_pci_core_device core;
	struct sim_gpu *gpu;
	int vf;
};

static struct sim_vf *to_vf(struct device *dev)
{
	return container_of(dev_get_drvdata(dev), struct sim_vf, core);
}

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *attr,
					 char *buf)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_gpu *gpu = vf->gpu;
	int at = sysfs_emit(buf, "ID    : vGPU Name\n");
	unsigned int i;

	mutex_lock(&gpu->lock);
	if (!sim_vgpu_of_vf(gpu, vf->vf) && !time_before(jiffies, gpu->types_at))
		for (i = 0; i < gpu->preset->nr_types; i++) {
			const struct sim_type *type = &gpu->preset->types[i];

			if (sim_vgpu_creatable(gpu, type))
				at += sysfs_emit_at(buf, at, "%-5u : %s\n", type->id, type->name);
		}
	mutex_unlock(&gpu->lock);
	return at;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *attr,
				      char *buf)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_vgpu *vgpu;
	unsigned int id;

	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	id = vgpu ? vgpu->type->id : 0;
	mutex_unlock(&vf->gpu->lock);
	return sysfs_emit(buf, "%u\n", id);
}

static int set_type(struct sim_vf *vf, unsigned int id)
{
	struct sim_gpu *gpu = vf->gpu;
	struct sim_vgpu *vgpu = sim_vgpu_of_vf(gpu, vf->vf);
	const struct sim_type *type;

	if (!id && !vgpu)
		return -EPERM;
	if (!id && vgpu->running)
		return -EBUSY;
	if (!id) {
		sim_vgpu_destroy(gpu, vgpu);
		return 0;
	}
	if (vgpu)
		return -EPERM;
	type = sim_type_find(gpu->preset, id);
	if (!type || time_before(jiffies, gpu->types_at)) {
		pr_info("NVRM: %s: Failed to add vgpu create request: 0x%x\n", gpu->name,
			type ? 0x66 : 0x56);
		return -EIO;
	}
	vgpu = sim_vgpu_create(gpu, type, vf->vf, NULL);
	if (PTR_ERR_OR_ZERO(vgpu) == -ENOSPC)
		return -EIO;
	return PTR_ERR_OR_ZERO(vgpu);
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *attr,
				       const char *buf, size_t count)
{
	struct sim_vf *vf = to_vf(dev);
	unsigned int id;
	int ret = kstrtouint(buf, 10, &id);

	if (ret)
		return ret;
	ret = sim_fault_write(vf->gpu);
	if (ret)
		return ret;
	if (!id)
		sim_fault_hang(vf->gpu);
	mutex_lock(&vf->gpu->lock);
	ret = set_type(vf, id);
	mutex_unlock(&vf->gpu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_RW(current_vgpu_type);

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_vgpu *vgpu;
	ssize_t len;

	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	len = sysfs_emit(buf, "%s\n", vgpu ? vgpu->params : "");
	mutex_unlock(&vf->gpu->lock);
	return len;
}

static ssize_t vgpu_params_store(struct device *dev, struct device_attribute *attr,
				 const char *buf, size_t count)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_vgpu *vgpu;
	int ret = sim_fault_write(vf->gpu);

	if (ret)
		return ret;
	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	ret = vgpu ? sim_vgpu_set_params(vf->gpu, vgpu, buf, count) : -EPERM;
	mutex_unlock(&vf->gpu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_RW(vgpu_params);

static ssize_t placement_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_vgpu *vgpu;
	ssize_t len = -ENXIO;

	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	if (vgpu)
		len = sysfs_emit(buf, "%u\n", vgpu->placement);
	mutex_unlock(&vf->gpu->lock);
	return len;
}

static ssize_t placement_id_store(struct device *dev, struct device_attribute *attr,
				  const char *buf, size_t count)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_vgpu *vgpu;
	unsigned int id;
	int ret = kstrtouint(buf, 10, &id);

	if (ret)
		return ret;
	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	ret = vgpu ? sim_vgpu_place(vf->gpu, vgpu, id) : -ENXIO;
	mutex_unlock(&vf->gpu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_RW(placement_id);

static ssize_t gpu_instance_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct sim_vf *vf = to_vf(dev);
	struct sim_vgpu *vgpu;
	ssize_t len = -ENXIO;

	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	if (vgpu && vgpu->gi)
		len = sysfs_emit(buf, "%u\n", vgpu->gi);
	else if (vgpu)
		len = sysfs_emit(buf, "Not Applicable\n");
	mutex_unlock(&vf->gpu->lock);
	return len;
}
static DEVICE_ATTR_RO(gpu_instance_id);

static struct attribute *sim_vf_attrs[] = {
	&dev_attr_creatable_vgpu_types.attr,
	&dev_attr_current_vgpu_type.attr,
	&dev_attr_vgpu_params.attr,
	&dev_attr_placement_id.attr,
	&dev_attr_gpu_instance_id.attr,
	NULL
};

static const struct attribute_group sim_vf_group = {
	.name = "nvidia",
	.attrs = sim_vf_attrs,
};

static struct sim_vf *vf_of_vfio(struct vfio_device *vdev)
{
	return container_of(vdev, struct sim_vf, core.vdev);
}

static int sim_vf_open(struct vfio_device *vdev)
{
	struct sim_vf *vf = vf_of_vfio(vdev);
	struct sim_vgpu *vgpu;
	int ret = -ENODEV;

	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	if (vgpu)
		ret = sim_vgpu_start(vf->gpu, vgpu);
	else
		pci_info(vf->core.pdev, "[nvidia-vgpu-vfio] vGPU type is not configured\n");
	mutex_unlock(&vf->gpu->lock);
	if (ret)
		return ret;
	ret = vfio_pci_core_enable(&vf->core);
	if (ret) {
		mutex_lock(&vf->gpu->lock);
		vgpu->running = false;
		mutex_unlock(&vf->gpu->lock);
		return ret;
	}
	vfio_pci_core_finish_enable(&vf->core);
	return 0;
}

static void sim_vf_close(struct vfio_device *vdev)
{
	struct sim_vf *vf = vf_of_vfio(vdev);
	struct sim_vgpu *vgpu;

	vfio_pci_core_close_device(vdev);
	mutex_lock(&vf->gpu->lock);
	vgpu = sim_vgpu_of_vf(vf->gpu, vf->vf);
	if (vgpu) {
		vgpu->running = false;
		vgpu->vm_uuid[0] = '\0';
	}
	mutex_unlock(&vf->gpu->lock);
}

static const struct vfio_device_ops sim_vf_ops = {
	.name = "nvidia-vgpu-vfio",
	.init = vfio_pci_core_init_dev,
	.release = vfio_pci_core_release_dev,
	.open_device = sim_vf_open,
	.close_device = sim_vf_close,
	.ioctl = vfio_pci_core_ioctl,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

int sim_vfio_probe(struct sim_gpu *gpu, struct pci_dev *pdev)
{
	struct sim_vf *vf = vfio_alloc_device(sim_vf, core.vdev, &pdev->dev, &sim_vf_ops);
	int ret;

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	vf->gpu = gpu;
	vf->vf = sim_vf_number(pdev);
	dev_set_drvdata(&pdev->dev, &vf->core);
	ret = vfio_pci_core_register_device(&vf->core);
	if (ret)
		goto put;
	ret = device_add_group(&pdev->dev, &sim_vf_group);
	if (ret)
		goto unregister;
	return 0;

unregister:
	vfio_pci_core_unregister_device(&vf->core);
put:
	vfio_put_device(&vf->core.vdev);
	return ret;
}

void sim_vfio_remove(struct pci_dev *pdev)
{
	struct sim_vf *vf = to_vf(&pdev->dev);
	struct sim_gpu *gpu = vf->gpu;
	struct sim_vgpu *vgpu;

	device_remove_group(&pdev->dev, &sim_vf_group);
	vfio_pci_core_unregister_device(&vf->core);
	mutex_lock(&gpu->lock);
	vgpu = sim_vgpu_of_vf(gpu, vf->vf);
	if (vgpu)
		sim_vgpu_destroy(gpu, vgpu);
	mutex_unlock(&gpu->lock);
	vfio_put_device(&vf->core.vdev);
}
