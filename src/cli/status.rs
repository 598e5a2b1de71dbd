//! `vgpuctl status`.

use crate::cli::report::{Format, Report};
use crate::cli::table;
use crate::cli::{boot, queue};
use crate::client::{Client, ClientError};
use crate::wire::{Refusal, Status};

pub(super) fn run(client: &Client, format: Format) -> Result<Report, Refusal> {
    let status: Status = client.get("/v1/status").map_err(ClientError::into_refusal)?;
    Report::new(format, &status, render)
}

fn libvirt(status: &Status) -> String {
    let version = status.libvirt_version.as_ref().map(|version| format!(", {version}")).unwrap_or_default();
    format!("{} ({}{version})", status.libvirt_uri, status.libvirt)
}

fn render(status: &Status) -> String {
    let state = if status.read_only.is_some() { "running, read-only" } else { "running" };
    let mut text = table::facts(&[
        ("vgpud", format!("{}, {state}", status.version)),
        ("libvirt", libvirt(status)),
        ("nvml", status.nvml.clone()),
        ("generation", status.generation.to_string()),
    ]);
    if let Some(why) = &status.read_only {
        text.push_str(&format!(
            "\nread-only:\n  {}\n  running guests are untouched; what can be made of the domains' aliases: vgpuctl adopt --rebuild --dry-run\n",
            table::printable(why)
        ));
    }
    let drift: Vec<String> = status.drift.iter().map(|one| format!("{}; {}", one.text, one.fix)).collect();
    let lists =
        [("unfinished", &status.unfinished), ("warnings", &status.warnings), ("changed by hand", &drift)];
    for (title, lines) in lists {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}:\n"));
        }
        for line in lines {
            text.push_str(&format!("  {}\n", table::printable(line)));
        }
    }
    if !status.waiting.is_empty() {
        text.push_str("\nwaiting for room:\n");
        text.push_str(&queue::table(2, &status.waiting));
    }
    if !status.boot.is_empty() {
        text.push_str("\nsince the boot:\n");
        text.push_str(&boot::steps(2, &status.boot));
    }
    text
}
