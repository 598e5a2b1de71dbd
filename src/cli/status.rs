//! `vgpuctl status`.

use crate::cli::report::{Format, Report};
use crate::cli::table;
use crate::client::{Client, ClientError};
use crate::wire::{Refusal, Status};

pub(super) fn run(client: &Client, format: Format) -> Result<Report, Refusal> {
    let status: Status = client.get("/v1/status").map_err(ClientError::into_refusal)?;
    Report::new(format, &status, render)
}

fn render(status: &Status) -> String {
    let mut text = table::facts(&[
        ("vgpud", format!("{}, running", status.version)),
        ("libvirt", format!("{} ({})", status.libvirt_uri, status.libvirt)),
        ("nvml", status.nvml.clone()),
        ("generation", status.generation.to_string()),
    ]);
    for (title, lines) in [("unfinished", &status.unfinished), ("warnings", &status.warnings)] {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}:\n"));
        }
        for line in lines {
            text.push_str(&format!("  {}\n", table::printable(line)));
        }
    }
    text
}
