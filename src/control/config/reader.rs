//! Reads TOML tables key by key. A wrong value is noted and reading goes on, so that one run shows every mistake.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Mistakes;
use super::nearest::nearest;

/// One table of the file, `[server]` or an element of `[[port]]`, and which of its keys have been asked for.
pub(super) struct Section<'t, 'm, 'a> {
    /// As the file writes it: `[server]`, `[[port]]`.
    title: &'static str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    asked: Vec<&'static str>,
    pub(super) mistakes: &'m mut Mistakes<'a>,
}

impl<'t, 'm, 'a> Section<'t, 'm, 'a> {
    pub(super) fn new(
        title: &'static str,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        mistakes: &'m mut Mistakes<'a>,
    ) -> Section<'t, 'm, 'a> {
        Section { title, table, span, asked: Vec::new(), mistakes }
    }

    /// Where the table starts.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value of `key`, if the table has it.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// True if the table has `key`, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that `key` is missing.
    pub(super) fn missing(&mut self, key: &str, example: &str) {
        self.mistakes.add(&self.span, format!("{} needs `{key}`, like `{key} = {example}`", self.title));
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Spanned::new(value.span(), text.to_owned())),
            None => self.wrong_type(key, "a string", value),
        }
    }

    pub(super) fn required_text(&mut self, key: &'static str, example: &str) -> Option<Spanned<String>> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.text(key)
    }

    /// A string that parses as `T`.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<Spanned<T>> {
        let text = self.text(key)?;
        self.parse(key, &text)
    }

    pub(super) fn required<T: FromStr<Err: Display>>(
        &mut self,
        key: &'static str,
        example: &str,
    ) -> Option<Spanned<T>> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.parsed(key)
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        match value.get_ref().as_bool() {
            Some(flag) => Some(Spanned::new(value.span(), flag)),
            None => self.wrong_type(key, "true or false", value),
        }
    }

    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Spanned<u32>> {
        let value = self.value(key)?;
        self.integer_in(key, value, range)
    }

    /// A list of integers, each in `range`.
    pub(super) fn integers(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Vec<Spanned<u32>>> {
        let value = self.value(key)?;
        let Some(items) = value.get_ref().as_array() else {
            return self.wrong_type(key, "a list of numbers", value);
        };
        items.iter().map(|item| self.integer_in(key, item, range.clone())).collect()
    }

    /// A list of strings. Bad elements are noted and left out.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<Spanned<String>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            return self.wrong_type(key, "a list of strings", value).unwrap_or_default();
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Spanned::new(item.span(), text.to_owned())),
                None => self.wrong_type::<()>(key, "a list of strings", item).unwrap_or_default(),
            }
        }
        texts
    }

    /// A list of strings that parse as `T`. Bad elements are noted and left out.
    pub(super) fn list<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Vec<Spanned<T>> {
        let texts = self.texts(key);
        texts.iter().filter_map(|text| self.parse(key, text)).collect()
    }

    /// One string or a list of them, each of which parses as `T`.
    pub(super) fn one_or_more<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Vec<Spanned<T>> {
        if self.value(key).is_some_and(|value| value.get_ref().is_array()) {
            self.list(key)
        } else {
            self.parsed(key).into_iter().collect()
        }
    }

    /// A string that is one of `choices`; the first is the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        let text = self.text(key)?;
        if let Some(&(_, choice)) = choices.iter().find(|(word, _)| word == text.get_ref()) {
            return Some(Spanned::new(text.span(), choice));
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let message = format!("`{key}` must be {}, not \"{}\"", words.join(" or "), text.get_ref());
        self.mistakes.add(&text.span(), message);
        None
    }

    /// Notes every key that nobody asked for, with the nearest that the section knows.
    pub(super) fn finish(self) {
        for key in self.table.keys().filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let written = key.get_ref();
            let hint = match nearest(written, &self.asked) {
                Some(known) => format!("; did you mean `{known}`?"),
                None => String::new(),
            };
            self.mistakes.add(&key.span(), format!("unknown key `{written}` in {}{hint}", self.title));
        }
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &Spanned<String>) -> Option<Spanned<T>> {
        match text.get_ref().parse() {
            Ok(value) => Some(Spanned::new(text.span(), value)),
            Err(error) => {
                self.mistakes.add(&text.span(), format!("`{key}`: {error}, not \"{}\"", text.get_ref()));
                None
            }
        }
    }

    fn integer_in(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: RangeInclusive<u32>,
    ) -> Option<Spanned<u32>> {
        let Some(written) = value.get_ref().as_integer() else {
            return self.wrong_type(key, "a number", value);
        };
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        match number.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(number) => Some(Spanned::new(value.span(), number)),
            None => {
                let (low, high) = range.into_inner();
                self.mistakes.add(&value.span(), format!("`{key}` must be {low} to {high}, not {written}"));
                None
            }
        }
    }

    fn wrong_type<T>(&mut self, key: &str, expected: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let found = value.get_ref().type_str();
        self.mistakes.add(&value.span(), format!("`{key}` must be {expected}, not {}", with_article(found)));
        None
    }
}

fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {word}")
}
