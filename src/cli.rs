//! The admin's command line: speaks to the service, prints for people or as JSON.
//!
//! A command turns arguments into one request and the answer into a report; only `main`
//! prints. What goes wrong is a `Refusal` whatever its cause, so that there is one way to say it.

mod adopt;
mod allocation;
mod boot;
mod capacity;
mod check;
mod device;
mod doctor;
mod edit;
mod explain;
mod gpu;
mod gpus;
mod history;
mod indent;
mod profile;
mod queue;
mod report;
mod room;
mod rules;
mod simulate;
mod span;
mod start;
mod status;
mod table;
mod terms;
mod top;
mod topology;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::report::{Format, Report};
use crate::client::Client;
use crate::config::Paths;
use crate::wire::Refusal;

const EXIT_CODES: &str = "\
Exit codes:
   0  done, or already so
   1  a look (check, doctor) found errors
   2  the request itself is wrong
   3  the caller may not do this
   4  what it names does not exist
   5  it contradicts what is there
   6  nothing has room
   7  in use or in transition; trying again can help
   8  vgpud is not running, or the kernel, libvirt or the disk said no
  70  a defect of vgpud

Environment:
  VGPUD_ROOT         everything below another directory, for rehearsals
  VGPUD_SOCKET       the service's socket, when it is not /run/vgpud/vgpud.sock";

const ABOUT: &str = "\
Give slices of this host's GPUs to libvirt domains

A profile is a wish with a name: so much framebuffer, or exactly that type. Attach a profile to a \
domain, start the domain with plain virsh: the slice is made on the best GPU at that moment, and \
given back when the domain stops.

  vgpuctl gpus                                       what is there, and what fits
  vgpuctl profile create desk --framebuffer 4GiB     name a wish
  vgpuctl attach web1 --profile desk                 put it into the domain's definition
  virsh start web1                                   nothing else to do";

/// The arguments of `vgpuctl`.
#[derive(Debug, Parser)]
#[command(name = "vgpuctl", version, about = "Give slices of this host's GPUs to libvirt domains")]
#[command(long_about = ABOUT, after_help = EXIT_CODES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    /// How to print: a table for people, or JSON with the API's field names
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    #[arg(display_order = 100)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Gpus(gpus::Gpus),
    Top(top::Top),
    /// Show how the service is
    ///
    /// Version, connection to libvirt, kernel changes that have not ended, and whatever an admin
    /// should know. A change that has not ended is usually a removal that the kernel holds up
    /// until a guest lets go of its device.
    Status,
    /// Show what was brought back since the host booted
    ///
    /// Remembered VF counts, their binding to VFIO, the slices of guaranteed allocations, and what the
    /// domains need that libvirt starts by itself: for each step what was wanted, what was found, how far
    /// it is and how long it took. A step that waits goes on when what it waits for comes.
    BootReport,
    /// Show what the host still holds
    ///
    /// For each profile how many slices could be made now, each profile counted alone, and how many on empty
    /// GPUs; what is in the way; a map of each GPU; the largest slice that can still be made; framebuffer that
    /// no type could have (stranded); and how much of the free framebuffer is of no use to the host's own mix
    /// of requests, as its history of starts has them (fragmentation).
    Capacity,
    Explain(explain::Explain),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Topology(topology::Topology),
    #[command(subcommand)]
    Profile(profile::Command),
    Attach(allocation::Attach),
    Detach(allocation::Detach),
    Start(start::Start),
    Queue(queue::Queue),
    MakeRoom(room::Room),
    Defrag(room::Defrag),
    Allocations(allocation::List),
    #[command(subcommand)]
    Allocation(terms::Command),
    Xml(allocation::Xml),
    Adopt(adopt::Adopt),
    Disown(adopt::Disown),
    History(history::History),
    Log(history::Log),
    #[command(subcommand)]
    Vfs(device::Vfs),
    #[command(subcommand)]
    Gpu(gpu::Gpu),
    #[command(subcommand)]
    Mdev(device::Mdev),
    #[command(subcommand)]
    Simulate(simulate::Command),
}

/// Runs `vgpuctl` on the process's arguments and environment.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to tell when the terminal is gone.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let paths = Paths::from_env();
    match run(arguments, &paths) {
        Ok(report) => print(&report),
        Err(refusal) => complain(&refusal),
    }
}

fn run(arguments: Arguments, paths: &Paths) -> Result<Report, Refusal> {
    let client = Client::new(paths);
    let format = arguments.output;
    match arguments.command {
        Command::Gpus(command) => command.run(&client, paths, format),
        Command::Top(command) => command.run(&client, format),
        Command::Status => status::run(&client, format),
        Command::BootReport => boot::run(&client, format),
        Command::Capacity => capacity::run(&client, format),
        Command::Explain(command) => command.run(&client, format),
        Command::Check(command) => command.run(&client, paths, format),
        Command::Doctor(command) => command.run(paths, format),
        Command::Topology(command) => command.run(&client, paths, format),
        Command::Profile(command) => command.run(&client, format),
        Command::Attach(command) => command.run(&client, format),
        Command::Detach(command) => command.run(&client, format),
        Command::Start(command) => command.run(&client, format),
        Command::Queue(command) => command.run(&client, format),
        Command::MakeRoom(command) => command.run(&client, format),
        Command::Defrag(command) => command.run(&client, format),
        Command::Allocations(command) => command.run(&client, format),
        Command::Allocation(command) => command.run(&client, format),
        Command::Xml(command) => command.run(&client, format),
        Command::Adopt(command) => command.run(&client, format),
        Command::Disown(command) => command.run(&client, format),
        Command::History(command) => command.run(&client, format),
        Command::Log(command) => command.run(&client, format),
        Command::Vfs(command) => command.run(&client, format),
        Command::Gpu(command) => command.run(&client, format),
        Command::Mdev(command) => command.run(&client, format),
        Command::Simulate(command) => command.run(&client, format),
    }
}

fn print(report: &Report) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    for note in &report.notes {
        // A note that nobody can read costs nothing.
        drop(writeln!(stderr, "note: {}", table::printable(note)));
    }
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(report.text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::from(u8::from(report.found_errors)),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(stderr, "vgpuctl: cannot write the answer: {error}"));
            ExitCode::from(crate::wire::Kind::HostFault.exit_code())
        }
    }
}

fn complain(refusal: &Refusal) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    // The exit code still tells when the terminal is gone.
    drop(writeln!(stderr, "vgpuctl: {}", table::printable(&refusal.message)));
    for hint in &refusal.hints {
        drop(writeln!(stderr, "hint: {}", table::printable(hint)));
    }
    ExitCode::from(refusal.kind.exit_code())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::wire::Kind;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_lists_every_exit_code() {
        use Kind::{Busy, Conflict, Forbidden, HostFault, Internal, NoCapacity, NotFound, Usage};
        for kind in [Usage, Forbidden, NotFound, Conflict, NoCapacity, Busy, HostFault, Internal] {
            let line = format!("\n{:>4}  ", kind.exit_code());
            assert!(EXIT_CODES.contains(&line), "{kind:?} is not listed");
        }
    }
}
