//! Writing a hostdev from a template.
//!
//! A template is one `<hostdev>` with comments around it. Placeholders such as `{uuid}` stand in attribute
//! values or text. It is copied event by event from a reader to a writer, so a value is always escaped and
//! the result always well-formed. An attribute whose placeholders are all empty is left out. What was made
//! is read back: it must name the device and carry our alias.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quick_xml::events::{BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use crate::domain_xml::read::{self, Source};
use crate::model::{AllocationId, Device, Kind, PciAddress, Profile, one_line};

/// The most bytes of a template.
const MAX_TEMPLATE: usize = 64 * 1024;

/// Choices of a profile that show in its hostdevs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `display='on'`.
    pub display: bool,
    /// `ramfb='on'`.
    pub ramfb: bool,
}

impl From<&Profile> for Options {
    fn from(profile: &Profile) -> Self {
        Self { display: profile.display, ramfb: profile.ramfb }
    }
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file is there and cannot be read.
    #[error("cannot read template {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a template of its kind.
    #[error("template {path}, line {line}: {fault}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
}

impl TemplateError {
    /// Returns what kind of no this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::HostFault
    }
}

/// One template of each kind.
#[derive(Clone, Debug)]
pub struct Templates {
    mdev: Template,
    vf: Template,
}

#[derive(Clone, Debug)]
struct Template {
    path: PathBuf,
    text: String,
}

impl Templates {
    /// Returns the templates that are part of the program.
    #[must_use]
    pub fn embedded() -> Self {
        let template = |path: &str, text: &str| Template { path: path.into(), text: text.to_owned() };
        Self {
            mdev: template("(built in) mdev.xml", include_str!("../../xml-templates/mdev.xml")),
            vf: template("(built in) vf.xml", include_str!("../../xml-templates/vf.xml")),
        }
    }

    /// Loads `mdev.xml` and `vf.xml`, each from the first of `dirs` that has it, else the one that is part
    /// of the program. Each is tried once, so that a wrong one shows here and not at an attach.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or is not a template of its kind.
    pub fn load<P: AsRef<Path>>(dirs: &[P]) -> Result<Self, TemplateError> {
        let embedded = Self::embedded();
        let loaded = Self {
            mdev: find(dirs, "mdev.xml")?.unwrap_or(embedded.mdev),
            vf: find(dirs, "vf.xml")?.unwrap_or(embedded.vf),
        };
        let trial = AllocationId::from_bits(0);
        let uuid = "00000000-0000-4000-8000-000000000001".parse().map(Device::Mdev);
        let address = "0000:01:02.3".parse().map(Device::Vf);
        for device in [uuid, address].into_iter().flatten() {
            for display in [false, true] {
                loaded.render(device, &trial, Options { display, ramfb: display })?;
            }
        }
        Ok(loaded)
    }

    /// Writes the hostdev of an allocation.
    ///
    /// # Errors
    /// When the template has an unknown placeholder, more or other than one `<hostdev>`, a DTD, no
    /// `{alias}`, or makes a hostdev that does not name the device.
    pub fn render(
        &self,
        device: Device,
        allocation: &AllocationId,
        options: Options,
    ) -> Result<String, TemplateError> {
        self.render_as(device, &allocation.alias(), options)
    }

    /// Writes the hostdev of a function that goes with a whole GPU, with its own alias.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub fn render_companion(&self, function: PciAddress, alias: &str) -> Result<String, TemplateError> {
        self.render_as(Device::Vf(function), alias, Options::default())
    }

    fn render_as(&self, device: Device, alias: &str, options: Options) -> Result<String, TemplateError> {
        let template = match device {
            Device::Mdev(_) => &self.mdev,
            Device::Vf(_) => &self.vf,
        };
        let invalid = |(offset, fault): (usize, String)| TemplateError::Invalid {
            path: template.path.clone(),
            line: 1 + template.text.bytes().take(offset).filter(|byte| *byte == b'\n').count(),
            fault,
        };
        let xml = copy(&template.text, &values(device, alias, options)).map_err(invalid)?;
        match check(&xml, device, alias) {
            Ok(()) => Ok(xml),
            Err(fault) => Err(invalid((0, format!("what it makes is no hostdev of {device}: {fault}")))),
        }
    }
}

fn find<P: AsRef<Path>>(dirs: &[P], name: &str) -> Result<Option<Template>, TemplateError> {
    for dir in dirs {
        let path = dir.as_ref().join(name);
        match read_bounded(&path) {
            Ok(text) => return Ok(Some(Template { path, text })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(TemplateError::Read { path, source }),
        }
    }
    Ok(None)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(MAX_TEMPLATE).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() > MAX_TEMPLATE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has more than 64 KiB"));
    }
    Ok(text)
}

/// The placeholders of a kind of device, with their values.
type Values = Vec<(&'static str, String)>;

fn values(device: Device, alias: &str, options: Options) -> Values {
    let on = |flag: bool| if flag { "on".to_owned() } else { String::new() };
    let mut values = vec![("alias", alias.to_owned())];
    match device {
        Device::Mdev(uuid) => values.extend([
            ("uuid", uuid.to_string()),
            ("display", on(options.display)),
            ("ramfb", on(options.ramfb)),
        ]),
        Device::Vf(address) => values.extend([
            ("segment", format!("{:04x}", address.segment)),
            ("bus", format!("{:02x}", address.bus)),
            ("slot", format!("{:02x}", address.device)),
            ("function", format!("{:x}", address.function)),
        ]),
    }
    values
}

/// A fault and the byte of the template where it is.
type Fault = (usize, String);

/// Copies a template with its placeholders replaced.
fn copy(template: &str, values: &Values) -> Result<String, Fault> {
    let mut reader = Reader::from_str(template);
    let mut writer = Writer::new(Vec::new());
    let (mut depth, mut roots, mut aliased) = (0_usize, 0_usize, false);
    loop {
        let start = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let at = |fault: String| (start, one_line(&fault, 300));
        let event = reader.read_event().map_err(|error| at(error.to_string()))?;
        if depth == 0 {
            roots += usize::from(matches!(event, Event::Start(_) | Event::Empty(_)));
            check_top(&event, roots).map_err(at)?;
        }
        let out = match event {
            Event::Start(tag) => {
                depth += 1;
                Event::Start(copy_tag(&tag, values, &mut aliased).map_err(at)?)
            }
            Event::Empty(tag) => Event::Empty(copy_tag(&tag, values, &mut aliased).map_err(at)?),
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                Event::End(tag)
            }
            Event::Text(text) if depth > 0 => {
                let text = fill(&text.xml10_content(), values, &mut aliased).map_err(at)?;
                Event::Text(BytesText::from_escaped(quick_xml::escape::escape(text).into_owned()))
            }
            Event::GeneralRef(entity) if depth > 0 => Event::GeneralRef(entity),
            Event::Comment(_) | Event::Decl(_) | Event::Text(_) | Event::GeneralRef(_) => continue,
            Event::DocType(_) => return Err(at("a template has no DTD".to_owned())),
            Event::CData(_) | Event::PI(_) => {
                return Err(at("a template has elements, attributes, text and comments only".to_owned()));
            }
            Event::Eof if depth > 0 => return Err(at("an element is not closed".to_owned())),
            Event::Eof if roots == 0 => return Err((0, "there is no <hostdev> in it".to_owned())),
            Event::Eof if !aliased => {
                return Err((
                    0,
                    "it has no {alias}: without it vgpud cannot know its own hostdevs".to_owned(),
                ));
            }
            Event::Eof => break,
        };
        writer.write_event(out).map_err(|error| at(error.to_string()))?;
    }
    String::from_utf8(writer.into_inner()).map_err(|error| (0, error.to_string()))
}

/// Checks what stands outside all elements.
fn check_top(event: &Event<'_>, roots: usize) -> Result<(), String> {
    match event {
        Event::Start(tag) | Event::Empty(tag) if tag.name().as_ref() != "hostdev" => {
            Err(format!("a template is one <hostdev>, not <{}>", tag.name().as_ref()))
        }
        Event::Start(_) | Event::Empty(_) if roots > 1 => {
            Err("a template is one <hostdev>, this is the second".to_owned())
        }
        Event::Text(text) if !text.trim().is_empty() => Err("there is text outside <hostdev>".to_owned()),
        Event::GeneralRef(_) => Err("there is text outside <hostdev>".to_owned()),
        _ => Ok(()),
    }
}

fn copy_tag(
    tag: &BytesStart<'_>,
    values: &Values,
    aliased: &mut bool,
) -> Result<BytesStart<'static>, String> {
    let mut copy = BytesStart::new(tag.name().as_ref().to_owned());
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let raw = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        let value = fill(&raw, values, aliased)?;
        if !value.is_empty() || raw.is_empty() {
            copy.push_attribute((attribute.key.as_ref(), value.as_str()));
        }
    }
    Ok(copy)
}

/// Replaces the placeholders of a text.
fn fill(text: &str, values: &Values, aliased: &mut bool) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, end) = after.split_once('}').ok_or_else(|| "a placeholder has no closing }".to_owned())?;
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            let known: Vec<String> = values.iter().map(|(known, _)| format!("{{{known}}}")).collect();
            return Err(format!(
                "{{{}}} is no placeholder here; there are {}",
                one_line(name, 40),
                known.join(" ")
            ));
        };
        *aliased |= name == "alias";
        out.push_str(before);
        out.push_str(value);
        rest = end;
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads back what was made.
fn check(xml: &str, device: Device, alias: &str) -> Result<(), String> {
    let document = read::parse(xml)?;
    let made = read::hostdev(document.root_element());
    match made.source {
        Source::Other(why) => return Err(why),
        source if source.device() != Some(device) => return Err("it names another device".to_owned()),
        _ => {}
    }
    if made.alias.as_deref() != Some(alias) {
        return Err("its alias is not {alias}".to_owned());
    }
    if made.managed {
        return Err("managed='yes' would let libvirt take the VF off its VFIO driver".to_owned());
    }
    Ok(())
}
