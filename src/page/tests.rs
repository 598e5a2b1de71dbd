use super::*;
use svg::WIDTH;

/// Returns the plots of a page, each parsed.
fn plots(html: &str) -> Vec<roxmltree::Document<'_>> {
    let begins = html.match_indices("<svg").map(|(at, _)| at);
    let end = |at: usize| at + html[at..].find("</svg>").expect("an end") + "</svg>".len();
    begins.map(|at| roxmltree::Document::parse(&html[at..end(at)]).expect("well-formed")).collect()
}

fn lines(points: Vec<(f64, f64)>) -> Lines {
    Lines {
        title: "use & <more>".to_owned(),
        x: ("time".to_owned(), Unit::Seconds),
        y: ("in use".to_owned(), Unit::Percent),
        most: 100.0,
        least: 0.0,
        front: Vec::new(),
        series: vec![Series { name: "a".to_owned(), points }],
    }
}

fn figure(plot: String) -> Part {
    let (title, text) = ("In use \"now\"".to_owned(), "Higher is better.".to_owned());
    Part::Figure(Figure { title, text, legend: vec!["first<fit".to_owned(), "vgpud".to_owned()], plot })
}

fn numbers(node: roxmltree::Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn a_page_is_well_formed_and_needs_nothing_else() {
    let bars = Bars {
        title: "refused".to_owned(),
        x: ("refused".to_owned(), Unit::Percent),
        groups: vec![Group {
            name: "jobs".to_owned(),
            bars: vec![
                Bar { name: "vgpud".to_owned(), value: Some(12.5) },
                Bar { name: "a very long name that cannot stand there".to_owned(), value: None },
            ],
        }],
    };
    let sheet = Sheet {
        title: "Figures".to_owned(),
        header: vec!["policy".to_owned(), "GB".to_owned()],
        rows: vec![vec!["<script>".to_owned(), "1".to_owned()]],
    };
    let page = Page {
        title: "A & B".to_owned(),
        lead: "What came out".to_owned(),
        parts: vec![
            figure(lines(vec![(0.0, 5.0), (10.0, 50.0)]).draw()),
            figure(bars.draw()),
            Part::Sheet(sheet),
            Part::Text("Assumed".to_owned(), vec!["Nothing\u{7}".to_owned()]),
        ],
        command: "vgpuctl simulate".to_owned(),
    };
    let html = page.html();
    let body = html.strip_prefix("<!doctype html>\n").expect("a doctype");
    let document = roxmltree::Document::parse(body).expect("well-formed");
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    for text in ["A & B", "In use \"now\"", "first<fit", "<script>", "12.5 %", "a very long name that can…"]
    {
        assert!(texts.iter().any(|found| found.trim() == text), "{text}: {texts:?}");
    }
    assert_eq!(
        plots(&html).len(),
        4 + 4,
        "two plots, each wide and narrow, and two samples of colour for each"
    );
    for outside in ["src=", "href=", "url(", "@import", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark"));
}

#[test]
fn curves_stay_in_their_frame_and_go_where_their_values_are() {
    let plot = lines(vec![(0.0, 0.0), (50.0, 100.0), (100.0, 50.0)]).draw_at(WIDTH);
    let document = roxmltree::Document::parse(&plot).expect("well-formed");
    let frame =
        document.descendants().find(|node| node.attribute("class") == Some("frame")).expect("a frame");
    let (top, height) = (numbers(frame, "y"), numbers(frame, "height"));
    let (left, width) = (numbers(frame, "x"), numbers(frame, "width"));
    let path = document.descendants().find(|node| node.has_tag_name("path")).expect("a curve");
    let points: Vec<(f64, f64)> = path
        .attribute("d")
        .expect("points")
        .split(['M', 'L'])
        .filter(|point| !point.is_empty())
        .map(|point| {
            point.split_once(' ').map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y"))).expect("two")
        })
        .collect();
    assert_eq!(points, [(left, top + height), (left + width / 2.0, top), (left + width, top + height / 2.0)]);
}

#[test]
fn an_empty_plot_says_so() {
    let plot = lines(Vec::new()).draw();
    assert!(plot.contains("nothing to show") && !plot.contains("NaN"));
    let odd = lines(vec![(f64::NAN, 1.0), (1.0, f64::INFINITY), (2.0, 3.0)]).draw();
    assert!(!odd.contains("NaN") && !odd.contains("inf"), "{odd}");
}

#[test]
fn blocks_lie_on_their_gpu_at_their_time() {
    let map = Map { title: "map".to_owned(), x: ("time".to_owned(), Unit::Seconds), end: 100.0 };
    let blocks = vec![
        Block { gpu: 0, slots: (0.0, 40.0), time: (0.0, 50.0), colour: 0 },
        Block { gpu: 1, slots: (40.0, 80.0), time: (50.0, 100.0), colour: 1 },
    ];
    let plot = map.strips_at(&Strips { gpus: vec![80.0, 80.0], blocks }, WIDTH);
    let document = roxmltree::Document::parse(&plot).expect("well-formed");
    let of = |class: &str| {
        let nodes = document.descendants().filter(|node| node.attribute("class") == Some(class));
        nodes.map(|node| ["x", "y", "width", "height"].map(|name| numbers(node, name))).collect::<Vec<_>>()
    };
    let (frames, first, second) = (of("frame"), of("f0 edge"), of("f1 edge"));
    let [left, top, width, height] = frames[0];
    assert_eq!(first, [[left, top + height / 2.0, width / 2.0, height / 2.0]]);
    assert_eq!(second, [[left + width / 2.0, frames[1][1], width / 2.0, height / 2.0]]);
}

#[test]
fn heat_has_a_cell_for_what_is_in_use() {
    let map = Map { title: "map".to_owned(), x: ("time".to_owned(), Unit::Seconds), end: 100.0 };
    let steps = vec![vec![0.0, 50.0], vec![100.0, 50.0], vec![100.0, 0.0]];
    let plot = map.heat_at(&Heat { steps, gpus_per_row: 10.0 }, WIDTH);
    let document = roxmltree::Document::parse(&plot).expect("well-formed");
    let cells = document.descendants().filter_map(|node| {
        let cells = node.attribute("d")?.matches('M').count();
        node.attribute("fill-opacity").map(|degree| (degree, cells))
    });
    // The scale comes first; what stays as it is is one cell.
    let cells: Vec<(&str, usize)> = cells.collect();
    assert_eq!(cells[cells.len() - 2..], [("0.50", 1), ("1.00", 1)]);
    assert!(plot.contains(">100 %<") && plot.contains("of the memory in use"));
}
