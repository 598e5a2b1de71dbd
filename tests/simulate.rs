//! `vgpuctl simulate` as an admin runs it: the real binary, without a service unless a test says so.

#![expect(clippy::expect_used, reason = "a command that fails fails the test")]

#[allow(dead_code, reason = "the other tests use the rest")]
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use service::{Act, Ended, Host, run};

const VGPUCTL: &str = env!("CARGO_BIN_EXE_vgpuctl");

/// Six hours of two desks and three jobs on two GPUs of 48 GB.
const REQUESTS: &str = "\
arrival,departure,owner,size,class,priority,wait
2026-03-02T08:00:00Z,2026-03-02T12:00:00Z,ann,4GiB,desk,0,
2026-03-02T08:05:00Z,2026-03-02T12:00:00Z,bob,8GiB,desk,0,
2026-03-02T08:10:00Z,2026-03-02T10:10:00Z,lab,24GiB,job,5,ever
2026-03-02T08:20:00Z,2026-03-02T09:20:00Z,lab,48GiB,job,0,ever
2026-03-02T08:30:00Z,2026-03-02T11:30:00Z,lab,24GiB,job,0,ever
2026-03-02T09:00:00Z,,eve,48GiB,desk,0,
2026-03-02T14:00:00Z,2026-03-02T14:00:01Z,ann,1GiB,desk,0,
";

fn simulate(host: &Host, line: &str) -> Ended {
    let mut command = host.command(VGPUCTL);
    command.arg("simulate").args(line.split_whitespace());
    run(command, Vec::new())
}

fn done(host: &Host, line: &str) -> String {
    let end = simulate(host, line);
    assert_eq!(end.code, Some(0), "{line}: {}", end.stderr);
    assert_eq!(end.stderr, "", "{line}: without a terminal there is no progress");
    end.stdout
}

fn answer(host: &Host, line: &str) -> Value {
    serde_json::from_str(&done(host, &format!("{line} -o json"))).expect("JSON")
}

fn refused(host: &Host, line: &str) -> (i32, String) {
    let end = simulate(host, line);
    assert_eq!(end.stdout, "", "{line}");
    (end.code.expect("an exit code"), end.stderr)
}

fn file(host: &Host, name: &str, bytes: &[u8]) -> PathBuf {
    let path = host.path().join(name);
    File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("a file");
    path
}

fn zipped(text: &str) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(text.as_bytes()).and_then(|()| writer.finish()).expect("zipped")
}

fn policy<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let mut rows = answer["policies"].as_array().expect("policies").iter();
    rows.find(|row| row["policy"] == name).expect("the policy")
}

/// Reads a page; each plot in it must be well-formed and lie in its frame, wide and narrow. Returns how many there are,
/// samples of colour left out.
fn plots(path: &Path) -> usize {
    #[expect(clippy::disallowed_methods, reason = "a page is no state")]
    let html = std::fs::read_to_string(path).expect("a page");
    let body = html.strip_prefix("<!doctype html>\n").expect("a doctype");
    let document = roxmltree::Document::parse(body).expect("a well-formed page");
    for outside in ["http-equiv", "src=", "href=", "url(", "NaN", "inf"] {
        assert!(
            !html.contains(&format!("\"{outside}")) && (outside.len() == 3 || !html.contains(outside)),
            "{outside}"
        );
    }
    let drawn = document.descendants().filter(|node| node.attribute("role") == Some("img"));
    let mut count = [0, 0];
    for plot in drawn {
        let width = plot.attribute("viewBox").and_then(|view| view.split(' ').nth(2)).expect("a width");
        count[usize::from(width == "360")] += 1;
        let marks = plot.descendants().filter(|node| matches!(node.tag_name().name(), "rect" | "path"));
        assert!(marks.count() > 1, "an empty plot: {:?}", plot.attribute("aria-label"));
        for node in plot.descendants() {
            for at in ["x", "y", "x1", "x2", "y1", "y2"] {
                let value: f64 = node.attribute(at).map_or(0.0, |text| text.parse().expect("a number"));
                assert!(
                    (-1.0..=2_000.0).contains(&value),
                    "{at}={value} in {:?}",
                    plot.attribute("aria-label")
                );
            }
        }
    }
    assert_eq!(count[0], count[1], "each plot is there wide and narrow");
    count[0]
}

#[test]
fn a_trace_is_replayed_and_says_who_was_refused_and_who_waited() {
    let host = Host::new();
    let path = file(&host, "requests.csv", REQUESTS.as_bytes());
    let line = format!(
        "trace --file {} --board l40s-48 --gpus 2 --policy first-fit/fifo,vgpud/backfill",
        path.display()
    );
    let answer = answer(&host, &line);
    assert_eq!(
        (&answer["requests"], &answer["gpus"], &answer["capacity_gb"]),
        (&json!(7), &json!(2), &json!(96))
    );
    for name in ["first-fit/fifo", "vgpud/backfill"] {
        let row = policy(&answer, name);
        let desk = &row["classes"][0];
        assert_eq!(
            (&desk["class"], &desk["asked"], &desk["refused"]),
            (&json!("desk"), &json!(4), &json!(1)),
            "{name}"
        );
        let job = &row["classes"][1];
        assert_eq!(
            (&job["asked"], &job["refused"], &job["waiting"]),
            (&json!(3), &json!(0), &json!(0)),
            "{name}"
        );
        assert_eq!(job["delay"]["requests"], 3);
        assert!(row["used_percent"]["mean"].as_f64().is_some_and(|used| used > 10.0 && used < 100.0));
    }
    // First-fit puts all of the first three on one GPU, so that the whole GPU of the fourth is idle.
    assert_eq!(policy(&answer, "first-fit/fifo")["delay"]["p50_s"], 0.0);
    let table = done(&host, &line);
    for word in
        ["requests.csv: 7 requests in 6.0 h on 2 x l40s-48, 96 GB", "vgpud/backfill", "one-pool", "FAIRNESS"]
    {
        assert!(table.contains(word), "{word}: {table}");
    }
    let zipped = file(&host, "requests.csv.gz", &zipped(REQUESTS));
    let again =
        self::answer(&host, &line.replace(&path.display().to_string(), &zipped.display().to_string()));
    assert_eq!(again["policies"][0]["classes"], answer["policies"][0]["classes"]);
}

#[test]
fn what_is_wrong_with_a_trace_is_said_with_its_line() {
    let host = Host::new();
    let path = file(&host, "bad.csv", b"arrival,size\n0,4\n1,huge\n");
    let (code, text) = refused(&host, &format!("trace --file {}", path.display()));
    assert_eq!(code, 2);
    assert!(text.contains("bad.csv: line 3, column size: \"huge\" is not a size"), "{text}");
    let path = file(&host, "large.csv", b"arrival,size\n0,4\n1,96\n");
    let (code, text) = refused(&host, &format!("trace --file {}", path.display()));
    assert_eq!(code, 2);
    assert!(text.contains("large.csv: line 3: 96 GB is more than the 80 GB of the largest board"), "{text}");
    let path = file(&host, "names.csv", b"arrival,profile\n0,desk\n");
    let (_, text) = refused(&host, &format!("trace --file {}", path.display()));
    assert!(text.contains("hint: say how large it is: --profile desk=GB"), "{text}");
    let sized = answer(&host, &format!("trace --file {} --profile desk=3 --policy fgd", path.display()));
    assert_eq!(sized["policies"][0]["sizes"][0]["size"], "4");
    assert_eq!(refused(&host, "trace --file nowhere.csv").0, 4);
    let (code, text) = refused(&host, &format!("trace --file {} --policy best", path.display()));
    assert_eq!(code, 2, "{text}");
}

#[test]
fn workloads_by_name_repeat_for_a_seed() {
    let host = Host::new();
    let line = "workload W5 --gpus 2 --seeds 2 --policy first-fit,fgd";
    let first = answer(&host, line);
    assert_eq!((&first["workload"], &first["runs"]), (&json!("W5"), &json!(2)));
    let again = answer(&host, line);
    for at in 0..2 {
        assert_eq!(first["policies"][at]["classes"], again["policies"][at]["classes"]);
    }
    let (code, text) = refused(&host, "workload W9");
    assert!(code == 2 && text.contains("hint: workloads: W2 (openb), W3 (boot-storm)"), "{text}");
    let (code, text) = refused(&host, "workload W2");
    assert!(code == 2 && text.contains("--pods"), "{text}");
}

#[test]
fn a_storm_on_a_few_gpus_is_quick() {
    let host = Host::new();
    let storm = answer(&host, "workload boot-storm --gpus 20 --policy pack");
    let row = policy(&storm, "pack");
    assert!(row["classes"][0]["asked"].as_u64().is_some_and(|asked| (280..350).contains(&asked)), "{row}");
    assert_eq!(row["line"], "lost");
}

/// A start or its end in the history's words.
fn entry(number: i64, at: i64, verb: &str, domain: &str, outcome: &str) -> Value {
    let gpu = |name: &str| {
        json!({"gpu": format!("pci:0000:{name}:00.0/10de:26b9/10de:1851"), "parent": format!("0000:{name}:00.4"),
               "possible": 12, "slices": 0, "memory_mib": [0, 49140], "verdict": "won"})
    };
    let decision = json!({"profile": "desk", "wish": "framebuffer 4GiB", "policy": "first-fit", "chosen": "0000:41:00.4",
                          "candidates": [gpu("41"), gpu("61")]});
    let decisions = if verb == "prepare" { json!([decision]) } else { json!([]) };
    json!({"number": number, "at": at, "uid": 0, "pid": 1, "verb": verb, "object": "x", "domain": domain,
           "outcome": outcome, "decisions": decisions})
}

fn entries() -> Value {
    json!({"entries": [
        entry(6, 1_700_000_900, "release", "web2", "done"),
        entry(5, 1_700_000_500, "prepare", "web3", "no GPU has room"),
        entry(4, 1_700_000_400, "prepare", "web3", "no GPU has room"),
        entry(3, 1_700_000_300, "release", "web1", "done"),
        entry(2, 1_700_000_100, "prepare", "web2", "done"),
        entry(1, 1_700_000_000, "prepare", "web1", "done"),
    ]})
}

#[test]
fn the_hosts_history_is_replayed_from_the_service_or_a_file() {
    let host = Host::with(|_, _| Act::Answer(200, entries().to_string()));
    let line = "history --policy first-fit,vgpud";
    let asked = answer(&host, line);
    assert_eq!(host.asked()[0].line, "GET /v1/history?limit=10000");
    // Two GPUs of 48 GB; web3 was refused twice and counts once.
    assert_eq!(
        (&asked["requests"], &asked["gpus"], &asked["boards"]),
        (&json!(3), &json!(2), &json!(["l40s-48"]))
    );
    assert_eq!(policy(&asked, "vgpud")["classes"][0]["class"], "desk");
    let notes = asked["notes"].to_string();
    assert!(
        notes.contains("3 starts of domains, of which 1 were refused then and 0 have not ended"),
        "{notes}"
    );

    let alone = Host::new();
    let saved = file(&alone, "history.json", entries().to_string().as_bytes());
    let read = answer(&alone, &format!("{line} --file {}", saved.display()));
    assert_eq!(read["policies"][0]["classes"], asked["policies"][0]["classes"]);
    assert_eq!(refused(&alone, line).0, 8, "without a service and without a file there is no history");
    let empty = file(&alone, "empty.json", b"{\"entries\": []}");
    let (code, text) = refused(&alone, &format!("history --file {} --board l40s-48", empty.display()));
    assert!(code == 4 && text.contains("no start of a domain"), "{text}");
    let (code, text) = refused(&alone, &format!("history --file {}", empty.display()));
    assert!(code == 2 && text.contains("--board"), "{text}");
}

#[test]
fn every_experiment_writes_a_page() {
    let host = Host::new();
    let page = host.path().join("out.html");
    let report = format!("--report {}", page.display());
    let requests = file(&host, "requests.csv", REQUESTS.as_bytes());
    let trace =
        format!("trace --file {} --board l40s-48 --policy first-fit,fgd/fifo {report}", requests.display());
    done(&host, &trace);
    assert_eq!(plots(&page), 8, "refusals, delays, four courses, two maps");
    done(&host, &format!("slots --fill --gpus 3 --seeds 3 --policy first-fit,fgd {report}"));
    assert_eq!(plots(&page), 6);
    done(&host, &format!("slots --load 0.9 --gpus 3 --seeds 1 --requests 500 --policy pack,fgd {report}"));
    assert_eq!(plots(&page), 6);
    done(&host, &format!("workload W3 --gpus 20 --policy pack,fgd {report}"));
    assert_eq!(plots(&page), 6);
    let nodes = file(
        &host,
        "nodes.csv",
        b"sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P\nb,96000,99999,8,G\n",
    );
    let tasks = b"name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,100,5,0,\nb,2000,6,1,90\nc,1000,1,1,70\n";
    let tasks = file(&host, "tasks.csv", tasks);
    let lists = format!("--nodes {} --pods {}", nodes.display(), tasks.display());
    done(&host, &format!("openb {lists} --policy first-fit,fgd --seeds 2 {report}"));
    assert_eq!(plots(&page), 4, "allocation, its end, fragmentation, refusals");
    done(&host, &format!("scenario risk-models --seeds 1 {report}"));
    assert!(plots(&page) >= 2, "time and utilisation");
    let (code, text) =
        refused(&host, &format!("openb {lists} --policy fgd --seeds 1 --report /nowhere/out.html"));
    assert!(code == 4 && text.contains("cannot write /nowhere/out.html"), "{text}");
}

#[test]
fn a_scenario_says_its_claim_its_assumptions_and_what_came_out() {
    let host = Host::new();
    let found = answer(&host, "scenario risk-models --seeds 2");
    assert_eq!((&found["scenario"], &found["runs"]), (&json!("risk-models"), &json!(2)));
    assert!(found["claim"].as_str().is_some_and(|claim| claim.contains("65 -> 92 %")), "{found}");
    let rows = found["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 18, "six loads, three divisions");
    let turnaround = |row: &Value| row["turnaround_h"]["mean"].as_f64().expect("hours");
    for case in rows.chunks(3) {
        assert!(turnaround(&case[2]) < turnaround(&case[1]), "dynamic division is quicker: {case:?}");
    }
    let table = done(&host, "scenario risk-models --seeds 2");
    let last = found["findings"].as_array().and_then(|lines| lines.last()?.as_str()).expect("findings");
    assert!(table.contains(last) && table.contains("TURNAROUND H"), "{table}");
    assert_eq!(answer(&host, "scenario risk-models --seeds 2"), found, "the same seed, the same figures");
    let (code, text) = refused(&host, "scenario trading");
    assert!(code == 2 && text.contains("risk-models, imaging"), "{text}");
}

/// Objects that the page on JSON describes once: their keys, and how rows of them begin.
const SHAPES: [(&[&str], &str); 4] = [
    (&["deviation", "least", "mean", "most"], "statistic"),
    (&["mean_s", "most_s", "p50_s", "p95_s", "requests"], "delay"),
    (&["mean", "spread"], "spread"),
    (&["max", "p50", "p99"], "nanoseconds"),
];

/// Collects the paths of all keys, each with the shape that its value has.
fn shapes(value: &Value, path: &str, found: &mut BTreeSet<(String, &'static str)>) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
            keys.sort_unstable();
            if let Some((_, shape)) = SHAPES.iter().find(|(known, _)| *known == keys) {
                found.insert((path.to_owned(), shape));
                return;
            }
            for (key, value) in object {
                let key = if key.bytes().all(|byte| byte.is_ascii_digit()) { "N" } else { key };
                let dot = if path.is_empty() { "" } else { "." };
                shapes(value, &format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(list) => {
            list.iter().for_each(|one| shapes(one, &format!("{path}[]"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert((path.to_owned(), ""));
        }
    }
}

/// Reads the table below a headline: each key with the shape that its text begins with.
fn documented(page: &str, title: &str) -> BTreeSet<(String, &'static str)> {
    let section = page.split("\n## ").find_map(|section| section.strip_prefix(title)).expect("a section");
    let row = |line: &str| {
        let (key, text) = line.strip_prefix("| `")?.split_once("` | ")?;
        let shape = SHAPES
            .iter()
            .map(|(_, shape)| *shape)
            .find(|shape| text.strip_prefix(shape).is_some_and(|rest| rest.starts_with([':', ' '])));
        Some((key.to_owned(), shape.unwrap_or("")))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn the_page_on_json_has_the_keys_that_are_printed() {
    let host = Host::new();
    let page = include_str!("../docs/simulate-json.md");
    let requests = file(&host, "requests.csv", REQUESTS.as_bytes());
    let nodes = file(&host, "nodes.csv", b"cpu_milli,memory_mib,gpu,model\n64000,262144,2,T4\n");
    let pods = file(
        &host,
        "pods.csv",
        b"cpu_milli,memory_mib,num_gpu,gpu_milli\n1000,1024,1,500\n2000,1024,1,250\n",
    );
    let (requests, nodes, pods) = (requests.display(), nodes.display(), pods.display());
    let slots = "slots --board h100-80 --gpus 3 --mix d4 --policy first-fit,vgpud";
    let replayed = "trace, history, workload";
    let commands = [
        ("slots --fill", format!("{slots} --fill --seeds 2")),
        ("slots --load", format!("{slots} --load 0.9 --requests 300 --seeds 1 --moves 1")),
        (replayed, format!("trace --file {requests} --board l40s-48 --gpus 2 --policy first-fit/fifo")),
        (replayed, "workload W5 --gpus 2 --policy first-fit".to_owned()),
        ("openb", format!("openb --nodes {nodes} --pods {pods} --policy first-fit --seeds 2")),
        ("bench", "bench --gpus 2,64 --decisions 50".to_owned()),
        ("scenario", "scenario imaging".to_owned()),
    ];
    let mut printed: BTreeMap<&str, BTreeSet<(String, &str)>> = BTreeMap::new();
    for (title, command) in &commands {
        shapes(&answer(&host, command), "", printed.entry(title).or_default());
    }
    for (title, mut found) in printed {
        // One pool is as a policy is, and the page says so.
        found.retain(|(key, _)| !key.starts_with("one_pool."));
        assert_eq!(documented(page, title), found, "{title}");
    }
}
