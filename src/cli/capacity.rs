//! `vgpuctl capacity`: what the host still holds, and a map of its GPUs.

use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError};
use crate::wire::{Capacity, GpuCapacity, Refusal};

/// Cells of a GPU's map.
const CELLS: u64 = 48;

pub(super) fn run(client: &Client, format: Format) -> Result<Report, Refusal> {
    let answer: Capacity = client.get("/v1/capacity").map_err(ClientError::into_refusal)?;
    Report::new(format, &answer, render)
}

fn render(answer: &Capacity) -> String {
    let mut text = profiles(answer);
    for gpu in &answer.gpus {
        text.push('\n');
        text.push_str(&map(gpu));
    }
    text.push('\n');
    text.push_str(&measures(answer));
    text
}

fn profiles(answer: &Capacity) -> String {
    if answer.profiles.is_empty() {
        return "no profiles; make one with: vgpuctl profile create NAME --framebuffer 4GiB\n".to_owned();
    }
    let mut table = Table::new(0, &["PROFILE", "WISH", ">POSSIBLE", ">IF EMPTIED", ">OF REQUESTS"]);
    for one in &answer.profiles {
        table.row([
            one.profile.to_string(),
            one.wish.clone(),
            one.possible.to_string(),
            one.if_emptied.map_or_else(|| "unknown".to_owned(), |count| count.to_string()),
            percent(one.weight),
        ]);
    }
    let mut text = table.render();
    for one in answer.profiles.iter().filter(|one| !one.blocked.is_empty()) {
        text.push_str(&format!("\nin the way of {}:\n", one.profile));
        for line in &one.blocked {
            text.push_str(&format!("  {}\n", printable(line)));
        }
    }
    text
}

fn percent(thousandths: u32) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// Draws a GPU: one letter a slice, as wide as its share, and a dot for what is free.
fn map(gpu: &GpuCapacity) -> String {
    let cells: String = gpu
        .slices
        .iter()
        .enumerate()
        .map(|(at, slice)| {
            let wide = match (gpu.total_mib, slice.mib) {
                (Some(total), Some(mib)) => wide(mib, total).max(1),
                _ => 1,
            };
            letter(at).to_string().repeat(wide)
        })
        .collect();
    let free = match (gpu.total_mib, gpu.used_mib) {
        (Some(_), Some(_)) => usize::try_from(CELLS).unwrap_or(0).saturating_sub(cells.chars().count()),
        _ => usize::try_from(u64::from(gpu.more).min(CELLS)).unwrap_or(0),
    };
    let used = match (gpu.used_mib, gpu.total_mib) {
        (Some(used), Some(total)) => format!("{used} of {total} MiB in slices"),
        _ => format!("{} slices, {} more", gpu.slices.len(), gpu.more),
    };
    let mut text = format!("{}  [{cells}{}]  {used}\n", gpu.name, ".".repeat(free));
    let mut table = Table::new(2, &["", "OWNER", "TYPE", ">MIB", "DEVICE"]);
    for (at, slice) in gpu.slices.iter().enumerate() {
        table.row([
            letter(at).to_string(),
            slice.owner.clone(),
            slice.mdev_type.as_ref().map_or_else(|| "VF".to_owned(), ToString::to_string),
            slice.mib.map(|mib| mib.to_string()).unwrap_or_default(),
            slice.device.to_string(),
        ]);
    }
    text.push_str(&table.render());
    text
}

fn wide(mib: u64, total: u64) -> usize {
    usize::try_from((mib.saturating_mul(CELLS) + total / 2) / total.max(1)).unwrap_or(0)
}

/// The letters of slices; those beyond have no letter of their own.
fn letter(at: usize) -> char {
    let letters = ('A'..='Z').chain('a'..='z');
    letters.chain(std::iter::repeat('#')).nth(at).unwrap_or('#')
}

fn measures(answer: &Capacity) -> String {
    let mut text = match &answer.largest {
        Some(one) => {
            format!("largest slice that can be made: {} MiB ({} on {})\n", one.mib, one.mdev_type, one.gpu)
        }
        None => "largest slice that can be made: none of which the size is told\n".to_owned(),
    };
    if answer.gpus.iter().any(|gpu| gpu.total_mib.is_some()) {
        text.push_str(&format!(
            "free framebuffer: {} MiB, stranded {} MiB\n",
            answer.free_mib, answer.stranded_mib
        ));
    }
    if let Some(share) = answer.fragmentation {
        text.push_str(&format!(
            "fragmentation: {} ({} MiB are of no use to the mix of requests: {})\n",
            percent(share),
            answer.fragmented_mib,
            printable(&answer.mix)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_as_wide_as_the_gpu_whatever_is_on_it() {
        assert_eq!((wide(24, 48), wide(1, 48), wide(48, 48)), (24, 1, 48));
        assert_eq!(wide(1, 100_000), 0);
        assert_eq!((letter(0), letter(25), letter(26), letter(51), letter(52)), ('A', 'Z', 'a', 'z', '#'));
    }
}
