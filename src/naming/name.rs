//! The three kinds of names of an endpoint. They are never interchangeable: a mix-up costs a day.

use std::fmt;

/// A name inside a network: what a container calls an endpoint. Means nothing without its network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Inside<T>(pub T);

/// A name on the underlay: (proto, ServerIP, ServerPort).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Wire<T>(pub T);

/// A name that the outside world uses, where one is published: (proto, public IP, port).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Public<T>(pub T);

impl<T: fmt::Display> fmt::Display for Inside<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Public<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
