# put-hostdev.pl IMAGE: writes the <hostdev> from stdin into the XML of a libvirt save image. libvirt's own
# save-image-edit admits no further device; QEMU does, when it has no state to load for it.
use strict;
use warnings;
my ($file) = @ARGV;
my $hostdev = do { local $/; <STDIN> };
open my $in, '<:raw', $file or die "$file: $!\n";
my $all = do { local $/; <$in> };
close $in;
# struct _virQEMUSaveHeader of src/qemu/qemu_saveimage.h
my ($magic, $version, $length, $running, $compressed, $cookie_at, @unused) = unpack 'a16 L5 L14', $all;
die "no save image\n" unless $magic eq 'LibvirtQemudSave';
my $head = 16 + 4 * 19;
my $data = substr $all, $head, $length;
my $stream = substr $all, $head + $length;
my ($xml) = $data =~ /^([^\0]*)\0/ or die "no XML\n";
my $cookie = $cookie_at ? substr($data, $cookie_at) : '';
$xml =~ s|</devices>|$hostdev</devices>| or die "no devices\n";
my $new = "$xml\0";
$cookie_at = length $new if $cookie_at;
$new .= $cookie;
open my $out, '>:raw', $file or die "$file: $!\n";
print $out pack('a16 L5 L14', $magic, $version, length $new, $running, $compressed, $cookie_at, @unused), $new, $stream;
close $out or die "$file: $!\n";
