# Reads the API COUNT times and prints percentiles in milliseconds.
use strict;
use Socket;

sub now {
    my $time = pack 'qq', 0, 0;
    syscall(228, 1, $time); # clock_gettime(CLOCK_MONOTONIC)
    my ($seconds, $nanoseconds) = unpack 'qq', $time;
    return $seconds * 1e3 + $nanoseconds / 1e6;
}

sub read_once {
    my ($path) = @_;
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    connect($socket, pack_sockaddr_un('/run/vgpud/vgpud.sock')) or die "connect: $!";
    syswrite $socket, "GET /v1/$path HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    my $answer = '';
    while (sysread $socket, $answer, 65536, length $answer) { }
    $answer =~ m{^HTTP/1.1 200 } or die "$path: $answer";
}

my @times;
for my $number (1 .. $ARGV[0]) {
    my $began = now();
    read_once((qw(gpus status allocations))[$number % 3]);
    push @times, now() - $began;
}
@times = sort { $a <=> $b } @times;
my $at = sub { $times[int($#times * $_[0])] };
printf "p50 %.1f p90 %.1f p99 %.1f most %.1f\n", $at->(0.5), $at->(0.9), $at->(0.99), $at->(1);
