//! Files, refusals and matching.

use proptest::prelude::*;

use super::*;
use crate::model::fixture::{gpu, host, mdev_type, name_of, parent, pci_id, pf, profile, vf};
use crate::model::{BackendKind, HostSnapshot};

fn read(text: &str) -> Result<Profile, ProfileError> {
    parse("p".parse().expect("valid"), text)
}

fn refusal(text: &str) -> String {
    let line = read(text).expect_err("refused").to_string();
    assert!(!line.contains('\n') && line.len() < 600, "{line:?}");
    line
}

#[test]
fn a_file_with_every_key_is_read() {
    let text = "framebuffer = \"4GiB\"\nclass = \"graphics\"\npolicy = \"most-free\"\ndisplay = true\nramfb = true\n";
    let read = read(text).expect("valid");
    assert_eq!(read.wish, Wish::Framebuffer(Framebuffer::from_mib(4096)));
    assert_eq!(read.class, Some("graphics".parse().expect("valid")));
    assert!(read.display && read.ramfb);
}

#[test]
fn unknown_keys_and_wrong_values_are_refused_with_their_line() {
    assert!(
        refusal("type = \"a\"\ncolour = \"red\"\n")
            .starts_with("line 2 of the profile file: unknown field `colour`")
    );
    assert!(refusal("\n\nframebuffer = \"4\"\n").contains("line 3"));
    assert!(refusal("framebuffer = \"2TiB\"").contains("1 MiB to 1 TiB"));
    assert!(refusal("framebuffer = 4096").contains("line 1"));
    assert!(refusal("type = \"a\"\npolicy = \"fgd\"\n").contains("most-free, first-fit"));
    assert!(refusal("type = \"a\"\npolicy = \"priority\"\n").contains("needs an order"));
    assert!(refusal("type = \"a\"\norder = [\"a b\"]\n").contains("no name of a GPU"));
    assert!(refusal("type = \"a\"\npriority = 1001\n").contains("-1000 to 1000"));
    assert!(refusal("type = \"a\"\nseparate = [\"ai\"]\n").contains("needs a class itself"));
    assert!(refusal("type = \"a\"\nnuma = \"always\"\n").contains("line 2"));
    assert!(refusal("type = \"a\"\nclass = \"../x\"\n").contains("profile name"));
    assert!(refusal("type = \"a\"\ntype = \"b\"\n").contains("line 2"));
    assert!(refusal("<domain/>").contains("line 1"));
    assert!(refusal("[type]\n").contains("line 1"));
}

#[test]
fn exactly_one_wish_is_taken() {
    assert_eq!(
        refusal(""),
        "a profile has exactly one of `framebuffer`, `type`, `vf` and `gpu`; this one has none"
    );
    assert!(refusal("type = \"a\"\nvf = \"8086:10ca\"").ends_with("this one has `type` and `vf`"));
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    assert!(refusal("type = \"a\"\nramfb = true").contains("needs display"));
    assert!(refusal("vf = \"8086:10ca\"\ndisplay = true").contains("mediated devices"));
    assert!(refusal("vf = \"ffff:10ca\"").contains("lspci -nn"));
    assert!(refusal("type = \"\"").contains("empty"));
    assert!(refusal("type = \" a\"").contains("white space"));
    assert!(refusal("type = \"a\\u0000b\"").contains("control characters"));
    assert!(refusal(&format!("type = \"{}\"", "a".repeat(129))).contains("the most is 128"));
    let zero = profile("p", Wish::Framebuffer(Framebuffer::from_mib(0)));
    assert!(validate(&zero).is_err());
}

#[test]
fn a_file_beyond_the_bound_is_refused_unread() {
    let error = read(&"#".repeat(MAX_FILE + 1)).expect_err("refused");
    assert_eq!(error, ProfileError::TooLarge { bytes: MAX_FILE + 1 });
}

#[test]
fn hostile_files_within_the_bound_end_with_one_line() {
    let nested = format!("type = {}", "[".repeat(60_000));
    let dotted = format!("{}a = 1", "a.".repeat(30_000));
    let key = format!("{} = 1", "k".repeat(60_000));
    let inline = format!("type = {}", "{a=".repeat(20_000));
    let value = format!("policy = \"{}\"", "v".repeat(60_000));
    let many: String = (0..6_000).map(|n| format!("k{n} = 1\n")).collect();
    for text in
        [nested, dotted, key, inline, value, many, "\0".to_owned(), "type = \"\u{1b}[31m\"".to_owned()]
    {
        refusal(&text);
    }
}

/// The matches as `parent: type or VFs or reason`.
fn shown(wish: Wish, snapshot: &HostSnapshot) -> Vec<String> {
    let show = |m: Match<'_>| match m.fit {
        Ok(Fit::Type(found)) => format!("{}: {}", m.parent, found.id),
        Ok(Fit::Whole([own])) => format!("{}: {}", m.parent, own.address),
        Ok(Fit::Vfs(vfs)) => format!("{}: {} VFs", m.parent, vfs.len()),
        Ok(Fit::Vgpu { vgpu_type, vfs }) => format!("{} on {} VFs", vgpu_type.id, vfs.len()),
        Err(reason) => format!("{}: {reason}", m.parent),
    };
    candidates(&profile("p", wish), snapshot).into_iter().map(show).collect()
}

#[test]
fn a_type_is_found_by_id_then_by_the_drivers_name() {
    let types = || vec![mdev_type("t-2", 0, 1), mdev_type("t-1", 0, 0)];
    let mut ccw = mdev_type("t-1", 0, 1);
    ccw.device_api = "vfio-ccw".to_owned();
    let many = (0..6).map(|n| mdev_type(&format!("x-{n}"), 0, 1)).collect();
    let snapshot = host(vec![
        gpu("b", vec![parent("b", types())]),
        gpu("c", vec![parent("c", vec![ccw])]),
        gpu("a", vec![parent("a", many)]),
        gpu("d", vec![]),
    ]);
    let expected = [
        "a: does not offer it, only x-0, x-1, x-2, x-3 and 2 more",
        "b: t-1",
        "c: its type t-1 is for vfio-ccw, not vfio-pci",
        "d: offers no mdev types: there is no mdev_supported_types",
    ];
    assert_eq!(shown(Wish::Type("t-1".to_owned()), &snapshot), expected);
    let by_name = shown(Wish::Type("Driver's t-2".to_owned()), &snapshot);
    assert_eq!(by_name[1], "b: t-2");
}

#[test]
fn a_framebuffer_is_served_by_the_smallest_type_that_has_it() {
    let sized = vec![
        mdev_type("q-16", 16_384, 1),
        mdev_type("q-5", 4096, 0),
        mdev_type("q-4", 4096, 4),
        mdev_type("q-2", 2048, 8),
        mdev_type("unsized", 0, 9),
    ];
    let snapshot = host(vec![
        gpu("a", vec![parent("a", sized)]),
        gpu("b", vec![parent("b", vec![mdev_type("small", 1024, 1)])]),
        gpu("c", vec![parent("c", vec![mdev_type("mtty-1", 0, 1)])]),
    ]);
    let expected = [
        "a: q-4",
        "b: its largest type, small, has 1GiB",
        "c: its types do not say their framebuffer (mtty-1)",
    ];
    assert_eq!(shown(Wish::Framebuffer(Framebuffer::from_mib(3000)), &snapshot), expected);
}

#[test]
fn vfs_are_found_by_their_id_on_pfs_that_give_vfs_out() {
    let vfs = vec![vf("0000:01:10.2", "8086:10ca"), vf("0000:01:10.0", "8086:10ca")];
    let mut vendor = pf("v", vec![vf("0000:02:10.0", "8086:10ca")]);
    vendor.backend = BackendKind::Mdev;
    vendor.backend_reason = "its VFs have mdev_supported_types".to_owned();
    let snapshot = host(vec![
        pf("p", vfs),
        pf("q", vec![]),
        pf("r", vec![vf("0000:03:10.0", "1af4:1041")]),
        vendor,
        gpu("g", vec![]),
    ]);
    let expected = [
        "g: has no SR-IOV",
        "p: 2 VFs",
        "q: has 0 of 7 VFs enabled: `vgpuctl vfs set q N` makes them",
        "r: its VFs are 1af4:1041",
        "v: does not give out VFs: its VFs have mdev_supported_types",
    ];
    assert_eq!(shown(Wish::Vf(pci_id("8086:10ca")), &snapshot), expected);
    let first = candidates(&profile("p", Wish::Vf(pci_id("8086:10ca"))), &snapshot).remove(1);
    assert_eq!(first.parent, &name_of("p"));
    let Ok(Fit::Vfs(vfs)) = first.fit else { panic!("VFs") };
    assert!(vfs[0].address < vfs[1].address);
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let wish = prop_oneof![
        "[^\\s\\p{C}]([^\\p{C}]{0,40}[^\\s\\p{C}])?"
            .prop_filter("too long", |name| name.len() <= 128)
            .prop_map(Wish::Type),
        (1u32..=1 << 20).prop_map(|mib| Wish::Framebuffer(Framebuffer::from_mib(mib))),
        (1u16..0xffff, any::<u16>()).prop_map(|(vendor, device)| Wish::Vf(PciId { vendor, device })),
    ];
    let class = proptest::option::of("[a-z][a-z0-9._-]{0,20}");
    (wish, class, any_rules(), any::<(bool, bool)>()).prop_map(|(wish, class, rules, (display, ramfb))| {
        let display = display && !matches!(wish, Wish::Vf(_));
        let class: Option<ProfileName> = class.map(|class| class.parse().expect("valid"));
        let separate = if class.is_some() { rules.separate } else { Default::default() };
        let rules = Rules { separate, ..rules };
        Profile { class, display, ramfb: display && ramfb, rules, ..profile("p", wish) }
    })
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let order = proptest::collection::vec("[a-z][a-z0-9:.]{0,12}", 0..3);
    let separate = proptest::collection::btree_set("[a-z]{1,8}", 0..3);
    let numa = proptest::sample::select(vec![Numa::Any, Numa::Prefer, Numa::Require]);
    (order, -1000i32..=1000, any::<(bool, Option<bool>)>(), separate, numa).prop_map(
        |(order, priority, (preemptible, overflow), separate, numa)| Rules {
            order,
            priority,
            preemptible,
            separate: separate.iter().map(|class| class.parse().expect("valid")).collect(),
            overflow,
            numa,
        },
    )
}

proptest! {
    #[test]
    fn printed_profiles_are_read_back(profile in any_profile()) {
        let text = print(&profile);
        prop_assert_eq!(read(&text), Ok(profile), "{}", text);
    }

    #[test]
    fn no_file_makes_the_reader_panic(text in "\\PC{0,80}|([a-z]{1,12} ?= ?(\"\\PC{0,9}\"|true|[0-9]+|\\[|\\{)\n?){0,6}") {
        if let Err(error) = read(&text) {
            prop_assert!(!error.to_string().contains('\n'), "{:?}", error);
        }
    }
}
