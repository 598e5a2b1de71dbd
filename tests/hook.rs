//! The hook's contract, on the real binary: what libvirt calls, what it gets.

mod service;

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use service::{Act, Ended, Host, ended, run};

const HOOK: &str = env!("CARGO_BIN_EXE_vgpu-hook");
const UUID: &str = "9d4f2f4e-0f67-4a4e-8d5e-1f2b3c4d5e6f";
/// The documented end of everything, and what a busy machine may add to it.
const HARD_CAP: Duration = Duration::from_millis(11_500);

fn domain(hostdevs: &str) -> String {
    format!(
        "<domain type='kvm'><name>web1</name><uuid>11111111-2222-3333-4444-555555555555</uuid>\
         <devices><disk type='file'/>{hostdevs}</devices></domain>"
    )
}

fn mdev(alias: &str) -> String {
    domain(&format!(
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{UUID}'/></source>\
         {alias}</hostdev>"
    ))
}

fn ours() -> String {
    mdev("<alias name='ua-vgpud-0a1b2c3d'/>")
}

fn call(host: &Host, operation: &str, sub: &str, xml: impl Into<Vec<u8>>) -> Ended {
    let mut command = host.command(HOOK);
    command.args(["web1", operation, sub, "-"]);
    run(command, xml.into())
}

const DONE: &str = r#"{"change":"done","notes":[]}"#;
const NO_ROOM: &str = r#"{"kind":"no_capacity","message":"no room for domain web1: 0000:41:00.4 has 0 left",
    "hints":["stop domain web2 first","or use a smaller profile"]}"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Service {
    Up,
    Refusing,
    Hanging,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Domain {
    WithoutHostdevs,
    NotOurs,
    OursByAlias,
    OursByList,
    Garbage,
}

impl Service {
    const ALL: [Self; 4] = [Self::Up, Self::Refusing, Self::Hanging, Self::Down];

    fn start(self) -> Host {
        match self {
            Self::Up => Host::with(|_, _| Act::Answer(200, DONE.to_owned())),
            Self::Refusing => Host::with(|_, _| Act::Answer(507, NO_ROOM.to_owned())),
            Self::Hanging => Host::with(|_, _| Act::Hang),
            Self::Down => Host::new(),
        }
    }
}

impl Domain {
    const ALL: [Self; 5] =
        [Self::WithoutHostdevs, Self::NotOurs, Self::OursByAlias, Self::OursByList, Self::Garbage];

    fn xml(self) -> String {
        match self {
            Self::WithoutHostdevs => domain(""),
            Self::NotOurs => mdev("<alias name='ua-other'/>"),
            Self::OursByAlias => ours(),
            Self::OursByList => mdev(""),
            Self::Garbage => "<domain><devices><hostdev".to_owned(),
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::OursByAlias | Self::OursByList)
    }
}

/// Operation, sub-operation, whether the service is asked, whether it may fail.
const OPERATIONS: [(&str, &str, bool, bool); 11] = [
    ("prepare", "begin", true, true),
    ("start", "begin", false, false),
    ("started", "begin", true, false),
    ("stopped", "end", false, false),
    ("release", "end", true, false),
    ("reconnect", "begin", true, false),
    ("attach", "begin", false, false),
    ("migrate", "begin", true, true),
    ("restore", "begin", true, true),
    ("restore", "end", false, false),
    ("rejoice", "begin", false, false),
];

fn check(operation: (&str, &str, bool, bool), service: Service, domain: Domain) {
    let (name, sub, asks, may_fail) = operation;
    let host = service.start();
    if domain == Domain::OursByList {
        host.own(&format!("0000:41:00.5\n{UUID}\n"));
    }
    let end = call(&host, name, sub, domain.xml());
    let row = format!("{name} {sub}, service {service:?}, domain {domain:?}: {end:?}");
    let trouble = asks && (domain == Domain::Garbage || domain.is_ours() && service != Service::Up);
    assert_eq!(end.code, Some(i32::from(may_fail && trouble)), "{row}");
    assert_eq!(end.stdout, "", "{row}");
    assert_eq!(end.stderr.lines().count(), usize::from(trouble), "{row}");
    assert_eq!(
        host.asked().len(),
        usize::from(asks && domain.is_ours() && service != Service::Down),
        "{row}"
    );
    assert!(end.took < HARD_CAP, "{row}");
}

#[test]
fn the_contract_holds_in_every_row() {
    std::thread::scope(|scope| {
        for operation in OPERATIONS {
            for service in Service::ALL {
                for domain in Domain::ALL {
                    scope.spawn(move || check(operation, service, domain));
                }
            }
        }
    });
}

#[test]
fn a_refusal_becomes_one_line_with_its_first_hint() {
    let end = call(&Service::Refusing.start(), "prepare", "begin", ours());
    assert_eq!(
        end.stderr,
        "vgpud: no room for domain web1: 0000:41:00.4 has 0 left; stop domain web2 first\n"
    );
}

#[test]
fn a_line_has_no_line_breaks_inside() {
    let refusal = r#"{"kind":"busy","message":"a\nb\u001b[31m"}"#;
    let host = Host::with(|_, _| Act::Answer(503, refusal.to_owned()));
    let end = call(&host, "prepare", "begin", ours());
    assert_eq!((end.code, end.stderr.as_str()), (Some(1), "vgpud: a?b?[31m\n"));
}

#[test]
fn a_dead_service_is_named_with_the_command_that_starts_it() {
    let end = call(&Host::new(), "prepare", "begin", ours());
    assert_eq!(
        end.stderr,
        "vgpud: domain web1 needs vGPU slices and vgpud is not running; start it with: systemctl start vgpud\n"
    );
}

#[test]
fn the_request_says_what_the_xml_says() {
    let host = Service::Up.start();
    call(&host, "release", "end", ours());
    let asked = host.asked();
    assert_eq!(asked[0].line, "POST /v1/hook");
    let hook: vgpud::wire::Hook = serde_json::from_str(&asked[0].body).expect("the wire's form");
    assert_eq!(hook.op, vgpud::wire::HookOp::Release);
    assert_eq!(hook.domain, "web1");
    assert_eq!(hook.domain_uuid.to_string(), "11111111-2222-3333-4444-555555555555");
    assert_eq!(hook.devices[0].device.to_string(), UUID);
    assert_eq!(hook.devices[0].allocation.as_ref().map(ToString::to_string).as_deref(), Some("0a1b2c3d"));
    assert!(hook.at.0 > 0);
}

#[test]
fn a_service_that_dies_while_asked_is_asked_once_more_for_the_same_run() {
    let host = Host::with(|number, _| match number {
        0 => Act::HangUp,
        _ => Act::Answer(200, DONE.to_owned()),
    });
    let end = call(&host, "prepare", "begin", ours());
    assert_eq!(end.code, Some(0), "{end:?}");
    let asked = host.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
}

#[test]
fn a_service_that_dies_twice_is_not_asked_a_third_time() {
    let host = Host::with(|_, _| Act::HangUp);
    let end = call(&host, "prepare", "begin", ours());
    assert_eq!((end.code, end.stderr.lines().count()), (Some(1), 1), "{end:?}");
    assert_eq!(host.asked().len(), 2);
}

#[test]
fn a_service_that_is_starting_is_waited_for() {
    let host = Host::new();
    let end = std::thread::scope(|scope| {
        let hook = scope.spawn(|| call(&host, "prepare", "begin", ours()));
        #[expect(clippy::disallowed_methods, reason = "the hook must find nobody first")]
        std::thread::sleep(Duration::from_millis(500));
        host.listen(|_, _| Act::Answer(200, DONE.to_owned()));
        hook.join().expect("the hook ends")
    });
    assert_eq!(end.code, Some(0), "{end:?}");
}

#[test]
fn an_endless_stdin_ends_in_time() {
    std::thread::scope(|scope| {
        for (operation, sub, code) in
            [("prepare", "begin", 1), ("reconnect", "begin", 0), ("stopped", "end", 0)]
        {
            scope.spawn(move || {
                let host = Host::new();
                let started = Instant::now();
                let mut command = host.command(HOOK);
                command.args(["web1", operation, sub, "-"]).stdin(Stdio::piped());
                let mut child = command.spawn().expect("the hook starts");
                let stdin = child.stdin.take();
                let end = ended(child.wait_with_output().expect("the hook ends"), started);
                drop(stdin);
                assert_eq!(end.code, Some(code), "{operation}: {end:?}");
                assert!(end.took < HARD_CAP, "{operation}: {end:?}");
            });
        }
    });
}

#[test]
fn a_huge_xml_is_refused_and_read_to_its_end() {
    let huge = vec![b'x'; 100 << 20];
    let host = Service::Up.start();
    let end = call(&host, "prepare", "begin", huge.clone());
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_eq!(end.stderr, "vgpud: domain web1: its XML has more than 8 MiB\n");
    assert_eq!(call(&host, "reconnect", "begin", huge).code, Some(0));
    assert!(host.asked().is_empty());
}

#[test]
fn hostile_xml_is_refused_in_one_line() {
    let bomb = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>\
                <!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;'>]>\
                <domain><name>&d;</name><devices><hostdev/></devices></domain>";
    let deep = format!("<hostdev>{}", "<a>".repeat(1_000_000));
    let wide = format!("<domain><hostdev {}/></domain>", "a='' ".repeat(500_000));
    let binary = b"<hostdev>\xff\xfe</hostdev>".to_vec();
    for xml in [bomb.as_bytes().to_vec(), deep.into(), wide.into(), binary] {
        let host = Service::Up.start();
        let end = call(&host, "prepare", "begin", xml.clone());
        assert_eq!((end.code, end.stderr.lines().count()), (Some(1), 1), "{end:?}");
        assert!(end.stderr.len() < 600, "{end:?}");
        assert_eq!(call(&host, "reconnect", "begin", xml).code, Some(0));
        assert!(host.asked().is_empty());
    }
}

#[test]
fn an_unprivileged_libvirt_is_told_that_ours_need_the_system_one() {
    let nobody = 65_534;
    let host = Host::new();
    let other_binary = tempfile::tempdir().expect("temporary directory");
    let hook = other_binary.path().join("vgpu-hook");
    std::fs::copy(HOOK, &hook).expect("a copy that anyone may run");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(other_binary.path(), open).expect("an open directory");
    for (operation, sub, code) in [("prepare", "begin", 1), ("release", "end", 0), ("reconnect", "begin", 0)]
    {
        let mut command = host.command(hook.to_str().expect("a path of text"));
        command.env_remove("VGPUD_ROOT").args(["web1", operation, sub, "-"]);
        if nix::unistd::geteuid().is_root() {
            command.uid(nobody);
        }
        let end = run(command, ours().into());
        assert_eq!(end.code, Some(code), "{operation}: {end:?}");
        assert_eq!(
            end.stderr,
            "vgpud: domain web1 needs vGPU slices, which only domains of qemu:///system get\n"
        );
    }
}

#[test]
fn a_call_by_hand_is_told_what_it_is() {
    let end = run(Host::new().command(HOOK), Vec::new());
    assert_eq!((end.code, end.stderr.lines().count()), (Some(0), 1), "{end:?}");
}

// Filters ------------------------------------------------------------------------------------------

/// A domain as libvirt writes it, with much around its hostdev that must stay to the byte.
fn saved(function: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<!-- bus='0x41' function='0x4' -->\n<domain type='kvm' id=\"7\">\r\n  \
         <name>web1</name>\n<uuid>11111111-2222-3333-4444-555555555555</uuid>\n  \
         <description>a &lt; b &#10; \u{e4}\u{1f600}</description>\n  <devices>\n\t<hostdev  mode='subsystem' \
         type='pci' managed='no'>\n<source><address  domain=\"0x0000\" bus='0x41'  slot='0x00' \
         function='{function}'/></source><alias name='ua-vgpud-0a1b2c3d'/>\n<address type='pci' \
         domain='0x0000' bus='0x41' slot='0x00' function='0x4'/></hostdev>\n  </devices>\n</domain>\n\n"
    )
}

fn exchanging(from: &str, to: &str) -> Host {
    let answer = format!(
        r#"{{"change":"done","notes":[],"exchanges":[{{"allocation":"0a1b2c3d","from":"{from}","to":"{to}"}}]}}"#
    );
    Host::with(move |_, _| Act::Answer(200, answer.clone()))
}

#[test]
fn filters_print_the_xml_with_the_exchanged_address_and_not_another_byte_changed() {
    for operation in ["restore", "migrate"] {
        let host = exchanging("0000:41:00.4", "0000:41:00.6");
        let end = call(&host, operation, "begin", saved("0x4"));
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{operation}");
        assert_eq!(end.stdout, saved("0x6"), "{operation}");
        let asked: vgpud::wire::Hook = serde_json::from_str(&host.asked()[0].body).expect("the wire's form");
        assert_eq!(asked.op.name(), operation);
    }
}

#[test]
fn only_filters_print_whatever_the_service_answers() {
    for (operation, sub) in
        [("prepare", "begin"), ("started", "begin"), ("release", "end"), ("reconnect", "begin")]
    {
        let host = exchanging("0000:41:00.4", "0000:41:00.6");
        let end = call(&host, operation, sub, saved("0x4"));
        assert_eq!((end.code, end.stdout.as_str(), end.stderr.as_str()), (Some(0), "", ""), "{operation}");
    }
}

#[test]
fn an_exchange_that_cannot_be_made_is_refused_and_nothing_is_printed() {
    // The XML does not name that VF; libvirt would resume the guest on a wrong one.
    let end = call(&exchanging("0000:41:00.5", "0000:41:00.6"), "restore", "begin", saved("0x4"));
    assert_eq!((end.code, end.stdout.as_str(), end.stderr.lines().count()), (Some(1), "", 1), "{end:?}");
    assert!(end.stderr.contains("web1") && end.stderr.contains("0000:41:00.5"), "{end:?}");
    let odd = Host::with(|_, _| Act::Answer(200, r#"{"change":"done","notes":[],"exchanges":7}"#.to_owned()));
    let end = call(&odd, "restore", "begin", saved("0x4"));
    assert_eq!((end.code, end.stdout.as_str(), end.stderr.lines().count()), (Some(1), "", 1), "{end:?}");
}

#[test]
fn a_filter_whose_output_nobody_reads_ends_in_time() {
    let wide = saved("0x4").replace("<devices>", &format!("<!--{}--><devices>", "x".repeat(1 << 20)));
    let host = exchanging("0000:41:00.4", "0000:41:00.6");
    let mut command = host.command(HOOK);
    command.args(["web1", "restore", "begin", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let started = Instant::now();
    let mut child = command.spawn().expect("the hook starts");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, wide.as_bytes()).expect("the hook reads");
    drop(stdin);
    let status = child.wait().expect("the hook ends");
    assert_eq!(status.code(), Some(1));
    assert!(started.elapsed() < HARD_CAP, "{:?}", started.elapsed());
}
