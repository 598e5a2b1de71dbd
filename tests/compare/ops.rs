//! Which operations there are, and how a sequence of them is drawn from a seed.

use std::fmt;

/// The devices of the lab.
pub(crate) const PARENTS: [&str; 3] = ["mbochs", "mdpy", "mtty"];
pub(crate) const TYPES: [(&str, &str); 8] = [
    ("mbochs", "mbochs-large"),
    ("mbochs", "mbochs-medium"),
    ("mbochs", "mbochs-small"),
    ("mdpy", "mdpy-hd"),
    ("mdpy", "mdpy-vga"),
    ("mdpy", "mdpy-xga"),
    ("mtty", "mtty-1"),
    ("mtty", "mtty-2"),
];
pub(crate) const PFS: [&str; 2] = ["0000:01:00.0", "0000:02:00.0"];
pub(crate) const DRIVERS: [&str; 3] = ["igb", "igbvf", "vfio-pci"];

/// VFs that are asked for; more than the hardware has.
const MOST_VFS: u64 = 8;
/// UUIDs that are asked for: few, so that they meet.
const UUIDS: u64 = 10;

/// One operation. Paths are below the root.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Opens an attribute for writing and writes once.
    Write { path: String, value: String },
    /// Opens an attribute twice, then writes through the one and the other.
    WriteTwice { path: String, value: String },
    /// Reads an attribute.
    Read { path: String },
    /// Opens the node of a device's group, and no device.
    Open { device: String },
    /// Closes it.
    Close { device: String },
    /// Takes a device as a guest does.
    Hold { device: String },
    /// Gives it back.
    Release { device: String },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |value: &str| match value.len() {
            0..80 => format!("{value:?}"),
            bytes => format!("{:?} and so on, {bytes} bytes", &value[..20]),
        };
        match self {
            Self::Write { path, value } => write!(f, "write {path} {}", short(value)),
            Self::WriteTwice { path, value } => write!(f, "write twice {path} {}", short(value)),
            Self::Read { path } => write!(f, "read {path}"),
            Self::Open { device } => write!(f, "open the group of {device}"),
            Self::Close { device } => write!(f, "close the group of {device}"),
            Self::Hold { device } => write!(f, "hold {device}"),
            Self::Release { device } => write!(f, "release {device}"),
        }
    }
}

/// Draws at least `count` operations, besides what only gives back; the last of them put the host back as it
/// was.
pub(crate) fn sequence(seed: u64, count: usize) -> Vec<Op> {
    let mut draw = Draw { state: seed, ops: Vec::new() };
    for pf in PFS {
        let count = draw.one(&[2, 3, 5, 7]);
        draw.write(pci(pf, "sriov_numvfs"), count.to_string());
    }
    let gives_back = |op: &&Op| matches!(op, Op::Release { .. } | Op::Close { .. });
    while draw.ops.len() - draw.ops.iter().filter(gives_back).count() < count {
        draw.scene();
    }
    draw.clean_up();
    draw.ops
}

pub(crate) fn uuid(number: u64) -> String {
    format!("8a1c0e3e-c0de-4000-8000-00000000000{number:x}")
}

/// The address of a VF of the lab's hardware: the first is 0x80 behind the PF, each next two further.
fn vf(pf: &str, index: u64) -> String {
    let id = 0x80 + 2 * index;
    format!("{}:{:02x}.{:x}", &pf[..7], id >> 3, id & 7)
}

fn mdev(uuid: &str, attribute: &str) -> String {
    format!("sys/bus/mdev/devices/{uuid}/{attribute}")
}

fn kind((parent, kind): (&str, &str), attribute: &str) -> String {
    format!("sys/class/mdev_bus/{parent}/mdev_supported_types/{kind}/{attribute}")
}

fn pci(address: &str, attribute: &str) -> String {
    format!("sys/bus/pci/devices/{address}/{attribute}")
}

fn driver(name: &str, attribute: &str) -> String {
    format!("sys/bus/pci/drivers/{name}/{attribute}")
}

struct Draw {
    state: u64,
    ops: Vec<Op>,
}

impl Draw {
    /// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        let limit = u64::try_from(of.len()).expect("few");
        of[usize::try_from(self.below(limit)).expect("few")]
    }

    fn write(&mut self, path: String, value: impl Into<String>) {
        self.ops.push(Op::Write { path, value: value.into() });
    }

    fn read(&mut self, path: String) {
        self.ops.push(Op::Read { path });
    }

    fn uuid(&mut self) -> String {
        let number = self.below(UUIDS);
        uuid(number)
    }

    /// Mostly one of the first VFs, which are there most often.
    fn vf(&mut self) -> String {
        let pf = self.one(&[PFS[0], PFS[0], PFS[0], PFS[1]]);
        let index = self.below(MOST_VFS).min(self.below(MOST_VFS)).min(self.below(MOST_VFS));
        vf(pf, index)
    }

    fn function(&mut self) -> String {
        if self.below(12) == 0 { self.one(&PFS).to_owned() } else { self.vf() }
    }

    /// Some operations that belong together.
    fn scene(&mut self) {
        match self.below(1000) {
            0..220 => self.create(),
            220..380 => self.remove(),
            380..410 => self.fill(),
            410..450 => self.bad_create(),
            450..490 => self.bad_remove(),
            490..560 => self.removal_of_a_held_one(),
            560..600 => self.removal_under_a_guard(),
            600..620 => self.two_openers(),
            620..632 => self.vfs(),
            632..660 => self.bad_vfs(),
            660..675 => self.autoprobe(),
            675..735 => self.set_override(),
            735..800 => self.give_to_vfio(),
            800..845 => self.held_vf(),
            845..890 => self.bind_or_unbind(),
            890..920 => self.probe(),
            920..960 => self.look(),
            960..962 => self.pf_without_driver(),
            962..970 => {
                let pf = self.one(&PFS);
                self.pf_with_driver(pf);
            }
            970..975 => self.autoprobe(),
            975..985 => self.no_attribute(),
            _ => self.give_all_back(),
        }
    }

    // mdevs --------------------------------------------------------------------------------------

    fn create(&mut self) {
        let at = kind(self.one(&TYPES), "create");
        let uuid = self.uuid();
        let value = match self.below(8) {
            0 => uuid.to_uppercase(),
            1 => format!("{uuid}\n"),
            _ => uuid,
        };
        self.write(at, value);
    }

    fn remove(&mut self) {
        let at = mdev(&self.uuid(), "remove");
        let value = self.one(&["1", "1", "1", "1\n", "0x1", "07", "+1"]);
        if self.below(12) == 0 {
            self.ops.push(Op::WriteTwice { path: at, value: value.to_owned() });
        } else {
            self.write(at, value);
        }
    }

    fn fill(&mut self) {
        let at = self.one(&TYPES);
        for number in 0..UUIDS {
            if self.below(3) > 0 {
                self.write(kind(at, "create"), uuid(number));
            }
        }
    }

    fn bad_create(&mut self) {
        let at = kind(self.one(&TYPES), "create");
        let uuid = self.uuid();
        let value = match self.below(10) {
            0 => String::new(),
            1 => "\n".to_owned(),
            2 => uuid[..35].to_owned(),
            3 => format!("{uuid} "),
            4 => format!("{uuid}\n\n"),
            5 => format!("{{{}}}", &uuid[..34]),
            6 => uuid.replace('-', "0"),
            7 => uuid.replace('8', "g"),
            8 => uuid.replace("8a1c0e3e-c0de", "8a1c0e3ec-0de"),
            _ => format!("{uuid}0"),
        };
        self.write(at, value);
    }

    fn bad_remove(&mut self) {
        let at = mdev(&self.uuid(), "remove");
        let values = [
            "",
            "\n",
            "0",
            "0\n",
            "-1",
            "x",
            "1x",
            " 1",
            "1 ",
            "08",
            "0x",
            "00",
            "1\n\n",
            "--1",
            "+",
            "18446744073709551615",
            "18446744073709551616",
            "0x10000000000000000",
            "+0",
            "-0",
            "0X0",
            "1.0",
        ];
        let value = self.one(&values);
        self.write(at, value);
    }

    fn removal_of_a_held_one(&mut self) {
        let (at, device) = (self.one(&TYPES), self.uuid());
        self.write(kind(at, "create"), device.clone());
        self.ops.push(Op::Hold { device: device.clone() });
        if self.below(4) == 0 {
            self.scene();
        }
        self.write(mdev(&device, "remove"), "1");
        for _ in 0..self.below(4) {
            match self.below(4) {
                0 => self.write(kind(at, "create"), device.clone()),
                1 => self.write(mdev(&device, "remove"), "1"),
                2 => self.ops.push(Op::Open { device: device.clone() }),
                _ => self.create(),
            }
        }
        self.ops.push(Op::Release { device: device.clone() });
        if self.below(2) == 0 {
            self.write(kind(at, "create"), device);
        }
    }

    fn removal_under_a_guard(&mut self) {
        let (at, device) = (self.one(&TYPES), self.uuid());
        if self.below(3) > 0 {
            self.write(kind(at, "create"), device.clone());
        }
        self.ops.push(Op::Open { device: device.clone() });
        if self.below(3) == 0 {
            self.ops.push(Op::Hold { device: device.clone() });
        }
        self.write(mdev(&device, "remove"), "1");
        if self.below(2) == 0 {
            self.write(kind(at, "create"), device.clone());
        }
        self.ops.push(Op::Close { device });
    }

    fn two_openers(&mut self) {
        let device = if self.below(2) == 0 { self.uuid() } else { self.vf() };
        for _ in 0..2 {
            match self.below(2) {
                0 => self.ops.push(Op::Hold { device: device.clone() }),
                _ => self.ops.push(Op::Open { device: device.clone() }),
            }
        }
        self.ops.push(Op::Close { device: device.clone() });
        self.ops.push(Op::Release { device });
    }

    // PCI ----------------------------------------------------------------------------------------

    fn vfs(&mut self) {
        let pf = self.one(&PFS);
        let count = self.one(&[0, 1, 2, 3, 3, 5, 7]);
        self.write(pci(pf, "sriov_numvfs"), count.to_string());
        self.read(pci(pf, "sriov_numvfs"));
    }

    fn bad_vfs(&mut self) {
        let pf = self.function();
        let values = [
            "",
            "\n",
            "-1",
            "x",
            "8",
            "99",
            "65535",
            "65536",
            "0x",
            "1 ",
            " 1",
            "08",
            "1.5",
            "4294967296",
            "0x8",
            "010",
            "18446744073709551616",
        ];
        let value = self.one(&values);
        self.write(pci(&pf, "sriov_numvfs"), value);
    }

    fn autoprobe(&mut self) {
        let pf = self.one(&PFS);
        let values =
            ["0", "1", "1\n", "y", "N", "t", "f", "on", "off", "oN", "o", "2", "", "\n", "yes", "x", "10"];
        let value = self.one(&values);
        self.write(pci(pf, "sriov_drivers_autoprobe"), value);
        self.read(pci(pf, "sriov_drivers_autoprobe"));
    }

    fn set_override(&mut self) {
        let function = self.vf();
        let long = |bytes: usize| "a".repeat(bytes);
        let value = match self.below(20) {
            0..5 => "vfio-pci".to_owned(),
            5..7 => "vfio-pci\n".to_owned(),
            7..10 => "none".to_owned(),
            10..12 => "igbvf".to_owned(),
            12 => String::new(),
            13..15 => "\n".to_owned(),
            15 => "a b".to_owned(),
            16 => "vfio-pci\nigbvf".to_owned(),
            17 => "vfio-pci ".to_owned(),
            18 => long(4094),
            _ => long(self.one(&[4095, 4096, 5000])),
        };
        self.write(pci(&function, "driver_override"), value);
        self.read(pci(&function, "driver_override"));
    }

    fn give_to_vfio(&mut self) {
        let vf = self.vf();
        self.write(pci(&vf, "driver_override"), "vfio-pci");
        let from = self.one(&["igbvf", "igbvf", "igbvf", "vfio-pci"]);
        self.write(driver(from, "unbind"), vf.clone());
        match self.below(3) {
            0 => self.write(driver("vfio-pci", "bind"), vf),
            _ => self.write("sys/bus/pci/drivers_probe".to_owned(), vf),
        }
    }

    fn held_vf(&mut self) {
        let vf = self.vf();
        self.move_to_vfio(&vf);
        self.ops.push(Op::Hold { device: vf.clone() });
        for _ in 0..=self.below(2) {
            match self.below(6) {
                0..2 => self.write(driver("vfio-pci", "unbind"), vf.clone()),
                2 => self.write(pci(&format!("{}:00.0", &vf[..7]), "sriov_numvfs"), "0"),
                3 => self.write(pci(&vf, "driver_override"), "none"),
                4 => self.write("sys/bus/pci/drivers_probe".to_owned(), vf.clone()),
                _ => self.read(pci(&vf, "driver_override")),
            }
        }
        if self.below(2) == 0 {
            self.create();
        }
        let pf = format!("{}:00.0", &vf[..7]);
        self.ops.push(Op::Release { device: vf });
        self.write(pci(&pf, "sriov_numvfs"), "3");
    }

    fn move_to_vfio(&mut self, vf: &str) {
        self.write(pci(vf, "driver_override"), "vfio-pci");
        self.write(driver("igbvf", "unbind"), vf);
        self.write("sys/bus/pci/drivers_probe".to_owned(), vf);
    }

    fn bind_or_unbind(&mut self) {
        let (name, vf) = (self.one(&DRIVERS), self.vf());
        let attribute = self.one(&["bind", "unbind"]);
        let value = match self.below(12) {
            0 => format!("{vf}\n"),
            1 => vf.trim_start_matches("0000:").to_owned(),
            2 => self.one(&["", "\n", "x", "0000:ff:1f.7"]).to_owned(),
            3 => format!(" {vf}"),
            4 => format!("{vf} "),
            5 => vf.to_uppercase(),
            _ => vf,
        };
        self.write(driver(name, attribute), value);
    }

    fn probe(&mut self) {
        let vf = self.vf();
        let value = match self.below(8) {
            0 => self.one(&["", "\n", "x", "0000:ff:1f.7"]).to_owned(),
            1 => format!("{vf}\n"),
            2 => format!("{vf} "),
            _ => vf,
        };
        self.write("sys/bus/pci/drivers_probe".to_owned(), value);
    }

    /// Its VFs go with it; while it has no driver nothing can be made.
    fn pf_without_driver(&mut self) {
        let pf = self.one(&PFS);
        self.write(driver("igb", "unbind"), pf);
        self.write(pci(pf, "sriov_numvfs"), "2");
        if self.below(2) == 0 {
            self.write(pci(pf, "driver_override"), "vfio-pci");
            self.write("sys/bus/pci/drivers_probe".to_owned(), pf);
            self.write(pci(pf, "sriov_numvfs"), "2");
            self.ops.push(Op::Hold { device: pf.to_owned() });
            self.ops.push(Op::Release { device: pf.to_owned() });
        }
        if self.below(3) > 0 {
            self.pf_with_driver(pf);
        }
    }

    fn pf_with_driver(&mut self, pf: &str) {
        self.write(driver("vfio-pci", "unbind"), pf);
        self.write(pci(pf, "driver_override"), "");
        self.write(pci(pf, "driver_override"), "\n");
        match self.below(2) {
            0 => self.write(driver("igb", "bind"), pf),
            _ => self.write("sys/bus/pci/drivers_probe".to_owned(), pf),
        }
        self.read(pci(pf, "sriov_totalvfs"));
        self.write(pci(pf, "sriov_numvfs"), "4");
    }

    // Others -------------------------------------------------------------------------------------

    fn look(&mut self) {
        let path = match self.below(6) {
            0 => pci(&self.function(), "driver_override"),
            1 => pci(self.one(&PFS), "sriov_numvfs"),
            2 => {
                let attribute =
                    self.one(&["sriov_totalvfs", "sriov_vf_device", "sriov_offset", "sriov_stride"]);
                pci(self.one(&PFS), attribute)
            }
            3 => pci(&self.function(), self.one_of_the_ids()),
            _ => {
                let attributes = ["available_instances", "name", "device_api", "description", "create"];
                kind(self.one(&TYPES), self.one(&attributes))
            }
        };
        self.read(path);
    }

    fn one_of_the_ids(&mut self) -> &'static str {
        self.one(&["class", "vendor", "device", "numa_node"])
    }

    fn no_attribute(&mut self) {
        let path = match self.below(5) {
            0 => kind(self.one(&TYPES), "available_instances"),
            1 => kind(self.one(&TYPES), "name"),
            2 => pci(&self.function(), "vendor"),
            3 => pci(self.one(&PFS), "sriov_totalvfs"),
            _ => mdev(&self.uuid(), "vfio-dev"),
        };
        self.write(path, "1");
    }

    /// Whatever is held is given back.
    fn give_all_back(&mut self) {
        for number in 0..UUIDS {
            self.ops.push(Op::Release { device: uuid(number) });
            self.ops.push(Op::Close { device: uuid(number) });
        }
        for pf in PFS {
            for device in (0..MOST_VFS).map(|index| vf(pf, index)) {
                self.ops.push(Op::Release { device: device.clone() });
                self.ops.push(Op::Close { device });
            }
        }
    }

    fn clean_up(&mut self) {
        self.give_all_back();
        for number in 0..UUIDS {
            self.write(mdev(&uuid(number), "remove"), "1");
        }
        for pf in PFS {
            self.write(pci(pf, "sriov_numvfs"), "0");
            self.write(pci(pf, "sriov_drivers_autoprobe"), "1");
            self.write(driver("vfio-pci", "unbind"), pf);
            self.write(pci(pf, "driver_override"), "\n");
            self.write("sys/bus/pci/drivers_probe".to_owned(), pf);
            self.write(pci(pf, "sriov_numvfs"), "0");
            self.read(pci(pf, "sriov_numvfs"));
        }
    }
}
