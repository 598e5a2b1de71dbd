# What the kernel, QEMU, libvirt's files and vgpuctl say, one fact a line. Knows nothing of vgpud's code.
use strict;
use warnings;

sub slurp { my ($path) = @_; local (@ARGV, $/) = ($path); no warnings; my $text = <>; return $text // '' }
sub last_of { my ($link) = @_; my $to = readlink $link // return '-'; $to =~ s{.*/}{}; return $to }

for my $link (glob '/sys/bus/mdev/devices/*') {
    my $place = readlink $link or next;
    my ($parent, $uuid) = $place =~ m{([^/]+)/([^/]+)$};
    print "mdev $uuid $parent ", last_of("$link/mdev_type"), "\n";
}
for my $parent (qw(mtty mdpy)) {
    for my $type (glob "/sys/class/mdev_bus/$parent/mdev_supported_types/*") {
        my ($name) = $type =~ m{([^/]+)$};
        print "left $parent $name ", slurp("$type/available_instances") =~ s/\s//gr, "\n";
    }
}
for my $link (glob '/sys/bus/pci/devices/0000:01:00.0/virtfn*') {
    my $vf = last_of($link);
    print "vf $vf ", last_of("/sys/bus/pci/devices/$vf/driver"), "\n";
}
my %device;
for my $member (glob '/sys/kernel/iommu_groups/*/devices/*') {
    my ($group, $name) = $member =~ m{iommu_groups/(\d+)/devices/(.+)$};
    $device{$group} = $name;
}
for my $process (glob '/proc/[0-9]*') {
    my ($pid) = $process =~ /(\d+)$/;
    if (slurp("$process/cmdline") =~ /qemu-system.*\0-name\0guest=([^,\0]+)/s) { print "qemu $pid $1\n" }
    for my $fd (glob "$process/fd/*") {
        my $to = readlink $fd // next;
        if ($to =~ m{^/dev/vfio/(\d+)$}) { print "holds $pid ", $device{$1} // "group-$1", "\n" }
    }
}
for my $file (glob '/etc/libvirt/qemu/*.xml') {
    my $xml = slurp($file);
    my ($name) = $xml =~ m{<name>(.*?)</name>};
    while ($xml =~ m{<hostdev (.*?)</hostdev>}gs) {
        my $hostdev = $1;
        my ($alias) = $hostdev =~ /<alias name='(.*?)'/;
        my ($source) = $hostdev =~ m{<source>(.*?)</source>}s;
        my $device = $source =~ /uuid='(.*?)'/ ? $1
            : $source =~ /domain='0x(.*?)' bus='0x(.*?)' slot='0x(.*?)' function='0x(.*?)'/ ? "$1:$2:$3.$4" : '-';
        print "names $name ", $alias // '-', " $device\n";
    }
}
print "owned $_\n" for split /\n/, slurp('/run/vgpud/owned');
for my $what ('allocations', 'gpus', 'status') {
    my $json = qx(vgpuctl $what -o json);
    print "json $what ", $json =~ s/\n\s*/ /gr, "\n";
}
