//! A service: all bindings of one inside or public name.

use crate::table::Handle;

use super::record::{Binding, Group};
use super::view::View;

/// One or many replicas behind one name, for one protocol.
#[derive(Clone, Copy)]
pub struct Service<'g> {
    view: View<'g>,
    replicas: Replicas<'g>,
}

#[derive(Clone, Copy)]
enum Replicas<'g> {
    One(&'g Binding),
    Several(&'g Group),
}

impl<'g> Service<'g> {
    #[inline(always)]
    pub(super) fn one(view: View<'g>, binding: &'g Binding) -> Service<'g> {
        Service { view, replicas: Replicas::One(binding) }
    }

    #[inline(always)]
    pub(super) fn several(view: View<'g>, group: &'g Group) -> Service<'g> {
        Service { view, replicas: Replicas::Several(group) }
    }

    /// The replica of a new flow: by weight over those that are active; if there is none, over those that stand by.
    /// `None` if all are draining.
    #[inline(always)]
    #[must_use]
    pub fn pick(&self, flow_hash: impl FnOnce() -> u64) -> Option<&'g Binding> {
        match self.replicas {
            Replicas::One(binding) => (!binding.is_draining()).then_some(binding),
            Replicas::Several(group) => self.at(group, group.slots.pick(flow_hash())?),
        }
    }

    /// The replica that is this container.
    #[must_use]
    pub fn of(&self, container: Handle) -> Option<&'g Binding> {
        self.members().find(|binding| binding.container() == container)
    }

    /// The replica of this identity (see [`View::identity`]): where an affinity entry leads now.
    #[must_use]
    pub fn by_identity(&self, identity: u64) -> Option<&'g Binding> {
        match self.replicas {
            Replicas::One(binding) => (self.view.identity(binding) == identity).then_some(binding),
            // They are in the order of their identities.
            Replicas::Several(group) => {
                let position = group.replicas.binary_search_by_key(&identity, |&handle| {
                    self.view.binding(handle).map_or(0, |binding| self.view.identity(binding))
                });
                self.at(group, position.ok()? as u16)
            }
        }
    }

    /// True if there is more than one binding, so that a flow must be kept on its replica.
    #[inline]
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        matches!(self.replicas, Replicas::Several(group) if group.replicas.len() > 1)
    }

    /// Every binding of the name, in the order of their identities.
    pub fn members(&self) -> impl Iterator<Item = &'g Binding> + use<'g> {
        let view = self.view;
        let (one, several): (Option<&'g Binding>, &'g [Handle]) = match self.replicas {
            Replicas::One(binding) => (Some(binding), &[]),
            Replicas::Several(group) => (None, &group.replicas),
        };
        one.into_iter().chain(several.iter().filter_map(move |&handle| view.binding(handle)))
    }

    #[inline]
    fn at(&self, group: &'g Group, position: u16) -> Option<&'g Binding> {
        self.view.binding(*group.replicas.get(usize::from(position))?)
    }
}
