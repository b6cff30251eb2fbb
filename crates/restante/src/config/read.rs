//! Reading values out of the parsed TOML, going by the schema: every mistake is noted with its place, and reading goes
//! on, so that all mistakes are found at once.
//!
//! What values mean together is `check`'s.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ::reference::Selector;
use mail::mta_sts::Pattern;
use mail::{Address, Domain, Timestamp};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Found;
use super::schema::{self, Presence, Section};
use super::values::{HostName, Network, parse_duration, parse_moment, parse_size};

/// A place in the text: octets.
pub(super) type Span = Range<usize>;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Its place; none for defaults and variables of the environment.
    pub(super) span: Option<Span>,
}

/// A value that is not right.
#[derive(Debug)]
pub(super) struct Wrong {
    message: String,
    span: Option<Span>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None }
    }
}

/// What can be read from a TOML value. `base` is what relative paths start from.
pub(super) trait FromToml: Sized {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>>;
}

/// What all cursors share.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) base: &'a Path,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) found: RefCell<Vec<Found>>,
}

impl Reading<'_> {
    /// Notes a mistake.
    pub(super) fn note(&self, span: Option<Span>, message: impl Into<String>, help: Option<String>) {
        self.found.borrow_mut().push(Found { span, message: message.into(), help });
    }
}

/// One table of the file on the way through its fields.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    reading: &'a Reading<'a>,
    section: &'static Section,
    table: Option<&'a DeTable<'a>>,
    span: Option<Span>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Cursor<'a> {
    /// The text as a whole.
    pub(super) fn root(reading: &'a Reading<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(reading, &schema::SECTIONS[0], Some(table), None)
    }

    fn new(
        reading: &'a Reading<'a>,
        section: &'static Section,
        table: Option<&'a DeTable<'a>>,
        span: Option<Span>,
    ) -> Self {
        Self { reading, section, table, span, asked: RefCell::default() }
    }

    /// A value where the schema demands one or has a default: `None` only after a mistake was noted. Where it does
    /// neither, `None` also if it is absent.
    pub(super) fn get<T: FromToml>(&self, name: &'static str) -> Option<T> {
        self.at(name).map(|at| at.value)
    }

    /// The same with its place.
    pub(super) fn at<T: FromToml>(&self, name: &'static str) -> Option<At<T>> {
        self.asked.borrow_mut().push(name);
        let Some(field) = self.section.fields.iter().find(|field| field.name == name) else {
            self.reading.note(None, format!("`{name}` is read but not documented: a fault of this program"), None);
            return None;
        };
        if let Some((variable, text)) = self.variable(name) {
            let from = |message: &str| format!("{message} (from the environment variable {variable})");
            return self.convert(&DeValue::String(text.into()), None, &from);
        }
        if let Some(value) = self.table.and_then(|table| table.get(name)) {
            return self.convert(value.get_ref(), Some(value.span()), &str::to_owned);
        }
        match field.presence {
            Presence::Default(text) => self.default(text),
            Presence::Required(example) => {
                let help = format!("add a line such as: {name} = {example}");
                self.reading.note(self.span.clone(), format!("{} lacks `{name}`", self.title()), Some(help));
                None
            }
            Presence::Optional(_) | Presence::Or(_) => None,
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text: At<String> = self.at(name)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.reading.note(text.span, format!("`{}` is not known here", text.value), Some(one_of(&text.value, &known)));
        None
    }

    /// Was the field written in the file?
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Place of a field as written, else of the table.
    pub(super) fn span_of(&self, name: &str) -> Option<Span> {
        self.table.and_then(|table| table.get(name)).map(Spanned::span).or_else(|| self.span.clone())
    }

    /// Notes a mistake at a field.
    pub(super) fn mistake(&self, name: &str, message: impl Into<String>, help: &str) {
        self.reading.note(self.span_of(name), message, Some(help.to_owned()));
    }

    /// A table below this one; there is always one, be it empty.
    pub(super) fn child(&self, name: &'static str) -> Self {
        let section = self.child_section(name);
        let Some(value) = self.table.and_then(|table| table.get(name)) else {
            return Self::new(self.reading, section, None, None);
        };
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("`{}` is a table", section.name);
            self.reading.note(Some(value.span()), message, Some(format!("write: [{}]", section.name)));
        }
        Self::new(self.reading, section, table, Some(value.span()))
    }

    /// A table below this one, if it is there.
    pub(super) fn optional_child(&self, name: &'static str) -> Option<Self> {
        let child = self.child(name);
        child.table.is_some().then_some(child)
    }

    /// All tables of a list.
    pub(super) fn children(&self, name: &'static str) -> Vec<Self> {
        let section = self.child_section(name);
        let Some(value) = self.table.and_then(|table| table.get(name)) else { return Vec::new() };
        let tables = value.get_ref().as_array().map(|array| array.iter().collect::<Vec<_>>()).unwrap_or_default();
        let all = tables.iter().all(|item| item.get_ref().is_table());
        if !value.get_ref().is_array() || !all {
            let message = format!("`{}` is a list of tables", section.name);
            self.reading.note(Some(value.span()), message, Some(format!("write: [[{}]]", section.name)));
        }
        let cursor = |item: &'a Spanned<DeValue<'a>>| {
            Some(Self::new(self.reading, section, Some(item.get_ref().as_table()?), Some(item.span())))
        };
        tables.into_iter().filter_map(cursor).collect()
    }

    /// Notes what is in the table and should not be. Call it when everything has been asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for field in self.section.fields.iter().filter(|field| !asked.contains(&field.name)) {
            let message = format!("`{}` is documented but not read: a fault of this program", field.name);
            self.reading.note(None, message, None);
        }
        let known = self.known_names();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let message = format!("{} has no `{name}`", self.title());
                self.reading.note(Some(key.span()), message, Some(self.advice(name, &known)));
            }
        }
    }

    fn variable(&self, name: &str) -> Option<(&'static str, &'a str)> {
        let (variable, ..) =
            schema::VARIABLES.iter().find(|(_, section, field)| *section == self.section.name && *field == name)?;
        Some((variable, self.reading.environment.get(*variable)?))
    }

    fn default<T: FromToml>(&self, text: &str) -> Option<At<T>> {
        let as_it_is = &str::to_owned;
        match DeValue::parse(text) {
            Ok(value) => self.convert(value.get_ref(), None, as_it_is),
            Err(error) => self.convert(&DeValue::String(error.message().to_owned().into()), None, as_it_is),
        }
    }

    fn convert<T: FromToml>(
        &self,
        value: &DeValue<'_>,
        span: Option<Span>,
        words: &dyn Fn(&str) -> String,
    ) -> Option<At<T>> {
        match T::from_toml(value, self.reading.base) {
            Ok(value) => Some(At { value, span }),
            Err(wrong) => {
                for w in wrong {
                    self.reading.note(w.span.or_else(|| span.clone()), words(&w.message), None);
                }
                None
            }
        }
    }

    fn child_section(&self, name: &'static str) -> &'static Section {
        let path = if self.section.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.section.name) };
        schema::section(&path).unwrap_or(&schema::SECTIONS[0])
    }

    fn known_names(&self) -> Vec<&'static str> {
        let fields = self.section.fields.iter().map(|field| field.name);
        let prefix = if self.section.name.is_empty() { String::new() } else { format!("{}.", self.section.name) };
        let below = schema::SECTIONS.iter().filter_map(|section| section.name.strip_prefix(prefix.as_str()));
        fields.chain(below.filter(|name| !name.is_empty() && !name.contains('.'))).collect()
    }

    fn advice(&self, name: &str, known: &[&'static str]) -> String {
        let elsewhere = schema::SECTIONS.iter().find(|section| section.fields.iter().any(|field| field.name == name));
        match (nearest(name, known), elsewhere) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(section)) => format!("`{name}` belongs into {}", title(section)),
            (None, None) => format!("known here: {}", known.join(", ")),
        }
    }

    fn title(&self) -> String {
        title(self.section)
    }
}

fn title(section: &Section) -> String {
    match (section.name, section.many) {
        ("", _) => "the top of the file".into(),
        (name, true) => format!("[[{name}]]"),
        (name, false) => format!("[{name}]"),
    }
}

/// The known name that a mistyped one was probably meant to be.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let likeness = |other: &&str| strsim::jaro_winkler(name, other);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.82).then_some(best)
}

/// Advice on a word that is none of the known ones.
pub(super) fn one_of(word: &str, known: &[&str]) -> String {
    let near = known.iter().find(|other| strsim::osa_distance(word, other) <= 2);
    let all = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    match near {
        Some(near) => format!("did you mean \"{near}\"? Known: {all}"),
        None => format!("one of: {all}"),
    }
}

fn wrong_type(value: &DeValue<'_>, wanted: &str) -> Vec<Wrong> {
    vec![Wrong::new(format!("this is {}, not {wanted}", with_article(value.type_str())))]
}

fn with_article(kind: &str) -> String {
    if kind.starts_with(['a', 'i']) { format!("an {kind}") } else { format!("a {kind}") }
}

fn text<'v>(value: &'v DeValue<'_>, wanted: &str) -> Result<&'v str, Vec<Wrong>> {
    value.as_str().ok_or_else(|| wrong_type(value, wanted))
}

/// A string that a parser judges, whose error names what is wrong with it.
fn parsed<T>(value: &DeValue<'_>, wanted: &str) -> Result<T, Vec<Wrong>>
where
    T: FromStr,
    T::Err: Display,
{
    let text = text(value, &format!("{wanted} in quotes"))?;
    text.parse().map_err(|error| vec![Wrong::new(format!("`{text}` is not {wanted}: {error}"))])
}

impl FromToml for String {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        text(value, "a text in quotes").map(str::to_owned)
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        value.as_bool().ok_or_else(|| wrong_type(value, "true or false"))
    }
}

impl FromToml for u64 {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let number = value.as_integer().ok_or_else(|| wrong_type(value, "a number"))?;
        let parsed = Self::from_str_radix(number.as_str(), number.radix());
        parsed.map_err(|_| vec![Wrong::new(format!("`{number}` is not a whole number from 0 upwards"))])
    }
}

impl FromToml for usize {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let number = u64::from_toml(value, base)?;
        Self::try_from(number).map_err(|_| vec![Wrong::new(format!("`{number}` is too large"))])
    }
}

impl FromToml for u32 {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let number = u64::from_toml(value, base)?;
        Self::try_from(number).map_err(|_| vec![Wrong::new(format!("`{number}` is too large"))])
    }
}

impl FromToml for u16 {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let number = u64::from_toml(value, base)?;
        match Self::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(vec![Wrong::new(format!("`{number}` is not a port: those go from 1 to 65535"))]),
        }
    }
}

impl FromToml for f64 {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let text = value.as_float().map(toml::de::DeFloat::as_str);
        let text = text.or_else(|| value.as_integer().map(toml::de::DeInteger::as_str));
        text.and_then(|text| text.parse().ok()).ok_or_else(|| wrong_type(value, "a number"))
    }
}

impl FromToml for Duration {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let text = text(value, "a duration in quotes, such as \"5m\"")?;
        parse_duration(text).map_err(|message| vec![Wrong::new(message)])
    }
}

/// In UTC.
impl FromToml for Timestamp {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let text = text(value, "a date and time in quotes, such as \"2027-01-15 08:00\"")?;
        let help = "is no date and time (UTC) like \"2027-01-15 08:00\"";
        parse_moment(text).ok_or_else(|| vec![Wrong::new(format!("`{text}` {help}"))])
    }
}

/// A number of octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl FromToml for Size {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        match value.as_str() {
            Some(text) => parse_size(text).map(Self).map_err(|message| vec![Wrong::new(message)]),
            None if value.is_integer() => u64::from_toml(value, base).map(Self),
            None => Err(wrong_type(value, "a size, such as \"50 MB\"")),
        }
    }
}

impl FromToml for PathBuf {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        match text(value, "a path in quotes")? {
            "" => Err(vec![Wrong::new("the path is empty")]),
            text => Ok(base.join(text)),
        }
    }
}

impl FromToml for Pattern {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        parsed(value, "a host name, or `*.` and a domain,")
    }
}

impl FromToml for Domain {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        parsed(value, "a domain name")
    }
}

impl FromToml for Address {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let address: Self = parsed(value, "an address such as alice@a.example")?;
        match address.domain() {
            Some(_) => Ok(address),
            None => Err(vec![Wrong::new(format!("`{address}` has no domain"))]),
        }
    }
}

impl FromToml for Selector {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        parsed(value, "a selector such as k1")
    }
}

impl FromToml for Ipv4Addr {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        parsed(value, "an IPv4 address")
    }
}

impl FromToml for Ipv6Addr {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        parsed(value, "an IPv6 address")
    }
}

impl FromToml for SocketAddr {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let text = text(value, "an address with a port in quotes")?;
        let advice =
            || Wrong::new(format!("`{text}` is not an address with a port, like \"0.0.0.0:25\" or \"[::]:25\""));
        text.parse().map_err(|_| vec![advice()])
    }
}

/// The address of a name server: the port may be left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server(pub(super) SocketAddr);

impl FromToml for Server {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        let text = text(value, "an address in quotes")?;
        let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53)));
        address
            .map(Self)
            .ok_or_else(|| vec![Wrong::new(format!("`{text}` is not an address such as \"127.0.0.1:53\""))])
    }
}

impl FromToml for Network {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        text(value, "a network in quotes")?.parse().map_err(|message: String| vec![Wrong::new(message)])
    }
}

impl FromToml for HostName {
    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, Vec<Wrong>> {
        text(value, "a host in quotes")?.parse().map_err(|message: String| vec![Wrong::new(message)])
    }
}

impl<T: FromToml> FromToml for At<T> {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        T::from_toml(value, base).map(|value| Self { value, span: None })
    }
}

/// Each element keeps its place where `T` is an [`At`]; its mistakes do in any case.
impl<T: FromToml> FromToml for Vec<T> {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let items = value.as_array().ok_or_else(|| wrong_type(value, "a list in brackets"))?;
        let (mut good, mut wrong) = (Self::new(), Vec::new());
        for item in items.iter() {
            match T::from_toml(item.get_ref(), base) {
                Ok(value) => good.push(value),
                Err(found) => wrong.extend(found.into_iter().map(|w| placed(w, item.span()))),
            }
        }
        if wrong.is_empty() { Ok(good) } else { Err(wrong) }
    }
}

/// A table of any names.
impl<T: FromToml> FromToml for BTreeMap<String, T> {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let entries = value.as_table().ok_or_else(|| wrong_type(value, "a table in braces"))?;
        let (mut good, mut wrong) = (Self::new(), Vec::new());
        for (key, item) in entries {
            match T::from_toml(item.get_ref(), base) {
                Ok(value) => drop(good.insert(key.get_ref().to_string(), value)),
                Err(found) => wrong.extend(found.into_iter().map(|w| placed(w, item.span()))),
            }
        }
        if wrong.is_empty() { Ok(good) } else { Err(wrong) }
    }
}

fn placed(wrong: Wrong, span: Span) -> Wrong {
    Wrong { span: wrong.span.or(Some(span)), ..wrong }
}
