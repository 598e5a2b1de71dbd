//! What placement says can be made, against what the driver accepts: random vGPUs come and go by hand on a GPU of
//! mixed sizes and on one of equal sizes, and each type is counted on both sides.
//!
//! The driver's side is made, not asked: vGPUs of a type are written until it says no, and taken away again.

use std::collections::BTreeMap;

use super::sim::{FIRST, SECOND};
use crate::host::{Lab, SHORT};

/// Each walk begins on empty GPUs.
const SEEDS: [u64; 2] = [1, 2];
/// Changes of a walk; after each, everything is counted.
const STEPS: u32 = 12;
/// Sizes in GiB, which are also the types' names.
const SIZES: [u32; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 48];

/// How many more of each type a GPU takes.
type Room = BTreeMap<(String, u32), u32>;

/// Functions for both sides, in the lab.
const TOOLS: &str = r#"
    # The VFs of a GPU that are "free" or "used".
    vfs() {
        local vf now
        for vf in /sys/bus/pci/devices/"$1"/virtfn*; do
            now=used
            [[ "$(<"$vf/nvidia/current_vgpu_type")" != 0 ]] || now=free
            [[ "$now" != "$2" ]] || printf '%s\n' "$vf"
        done
    }
    write() { { printf '%s\n' "$2" >"$1/nvidia/current_vgpu_type"; } 2>/dev/null; }
    # The AT-th of them, round and round.
    nth() { local all; mapfile -t all; ((${#all[@]} > 0)) && printf '%s\n' "${all[$(($1 % ${#all[@]}))]}"; }
    # How many of a type the driver takes; they are gone again.
    takes() {
        local vf made=()
        for vf in $(vfs "$1" free); do write "$vf" "$2" || break; made+=("$vf"); done
        for vf in "${made[@]}"; do write "$vf" 0; done
        printf '%s\n' "${#made[@]}"
    }
"#;

/// Numbers as good as random, always the same for a seed (Vigna's splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit)).expect("less than the limit")
    }
}

impl Lab {
    /// NVIDIA's numbers of the types, by size.
    fn numbers_of_types(&self) -> BTreeMap<u32, u32> {
        let list = self.ok(&format!("cat /sys/bus/pci/devices/{FIRST}/virtfn0/nvidia/creatable_vgpu_types"));
        let one = |line: &str| {
            let (number, name) = line.split_once(':')?;
            let size = name.trim().rsplit('-').next()?.strip_suffix('Q')?.parse().ok()?;
            Some((size, number.trim().parse().ok()?))
        };
        list.lines().filter_map(one).collect()
    }

    /// What the driver takes.
    fn driver_takes(&self, types: &BTreeMap<u32, u32>) -> Room {
        let list: Vec<String> = types.iter().map(|(size, number)| format!("{size}:{number}")).collect();
        let said = self.ok(&format!(
            "{TOOLS}
             for gpu in {FIRST} {SECOND}; do
                 for one in {}; do echo $gpu ${{one%:*}} $(takes $gpu ${{one#*:}}); done
             done",
            list.join(" ")
        ));
        said.lines().map(room_of).collect()
    }

    /// Waits until placement says the same. The driver says nothing when a type is written, so it may take a few seconds.
    #[track_caller]
    fn wait_same(&self, wanted: &Room, walk: &str) {
        let lines = |room: &Room| -> Vec<String> {
            room.iter().map(|((gpu, size), count)| format!("{gpu} {size} {count}")).collect()
        };
        let sizes = SIZES.map(|size| size.to_string()).join(" ");
        let said = self.run(&format!(
            "wanted='{}'
             said() {{
                 for size in {sizes}; do
                     vgpuctl profile explain q$size -o json |
                         jq -r --arg size $size '.candidates[] | select(.parent == \"{FIRST}\" or .parent == \"{SECOND}\") | \"\\(.parent) \\($size) \\(.possible)\"'
                 done | sort
             }}
             for ((turn = 0; turn < {}; turn++)); do
                 now=\"$(said)\"
                 [[ \"$now\" != \"$(sort <<<\"$wanted\")\" ]] || exit 0
             done
             diff <(sort <<<\"$wanted\") <(echo \"$now\") >&2; exit 1",
            lines(wanted).join("\n"),
            SHORT.as_secs()
        ));
        assert_eq!(
            said.code, 0,
            "the driver (<) and placement (>) differ, GPU, GiB, room; {walk}:\n{}",
            said.stderr
        );
    }
}

fn room_of(line: &str) -> ((String, u32), u32) {
    let words: Vec<&str> = line.split(' ').collect();
    let [gpu, size, count] = words.as_slice() else { panic!("GPU, size, count: {line}") };
    (((*gpu).to_owned(), size.parse().expect("a size")), count.parse().expect("a count"))
}

#[test]
fn placement_says_what_the_driver_accepts_for_equal_and_for_mixed_sizes() {
    let Some(lab) = Lab::with_gpus("l40s-vfio,l40s-vfio") else { return };
    lab.ok(&format!("vgpuctl gpu set {FIRST} --vfs 32 --mode mixed && vgpuctl gpu set {SECOND} --vfs 32"));
    let types = lab.numbers_of_types();
    assert_eq!(types.keys().copied().collect::<Vec<u32>>(), SIZES, "the types of an L40S");
    for size in SIZES {
        lab.ok(&format!("vgpuctl profile create q{size} --type L40S-{size}Q"));
    }
    let mut compared = 0;
    for seed in SEEDS {
        let mut numbers = Numbers(seed);
        let mut walk = format!("seed {seed}");
        for _ in 0..STEPS {
            let gpu = [FIRST, SECOND][numbers.below(2) as usize];
            let at = numbers.below(32);
            // Two come for each that goes.
            let (what, which, value) = match numbers.below(3) {
                0 => ("nothing".to_owned(), "used", 0),
                _ => {
                    let size = SIZES[numbers.below(7) as usize];
                    (format!("{size} GiB"), "free", types[&size])
                }
            };
            walk.push_str(&format!(", {what} on {gpu}"));
            lab.ok(&format!(
                "{TOOLS}
                 vf=\"$(vfs {gpu} {which} | nth {at})\" || exit 0
                 write \"$vf\" {value} || true"
            ));
            let takes = lab.driver_takes(&types);
            lab.wait_same(&takes, &walk);
            compared += takes.len();
        }
        lab.ok(&format!(
            "{TOOLS}
             for gpu in {FIRST} {SECOND}; do for vf in $(vfs $gpu used); do write $vf 0; done; done"
        ));
    }
    println!("{compared} counts of placement compared with the driver's");
}
