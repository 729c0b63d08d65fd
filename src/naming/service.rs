//! A service: all bindings of one inside or public name.

use crate::table::Handle;

use super::record::{Binding, Group};
use super::replica::ReplicaId;
use super::view::View;

/// One or many replicas behind one name, for one protocol.
#[derive(Clone, Copy)]
pub struct Service<'g> {
    view: View<'g>,
    replicas: Replicas<'g>,
}

/// One of the bindings of a service.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'g> {
    pub binding: &'g Binding,
    pub id: ReplicaId,
}

/// Several replicas, or one that drains or is unhealthy: whose a packet is depends on its flow.
#[derive(Clone, Copy)]
pub struct Choice<'g>(Replicas<'g>);

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

    #[inline]
    pub(super) fn of_choice(view: View<'g>, Choice(replicas): Choice<'g>) -> Service<'g> {
        Service { view, replicas }
    }

    /// The one binding that all packets go to; otherwise there is a choice to make.
    #[inline]
    pub(super) fn sole(&self) -> Result<&'g Binding, Choice<'g>> {
        match self.replicas {
            Replicas::One(binding) if binding.is_eligible() => Ok(binding),
            replicas => Err(Choice(replicas)),
        }
    }

    /// The replica that the hash picks for a new flow: by weight over those that are active; if there is none, over those
    /// that stand by. `None` if all are draining or unhealthy.
    #[must_use]
    pub fn choose(&self, flow_hash: u64) -> Option<Replica<'g>> {
        match self.replicas {
            Replicas::One(binding) => binding.is_eligible().then(|| self.only(binding)),
            Replicas::Several(group) => self.replica_at(group, group.slots.pick(flow_hash)?),
        }
    }

    /// The replica of this name, whatever is to become of it: where an affinity entry leads now.
    #[must_use]
    pub fn replica(&self, id: ReplicaId) -> Option<Replica<'g>> {
        match self.replicas {
            Replicas::One(binding) => Some(self.only(binding)).filter(|replica| replica.id == id),
            Replicas::Several(group) => self.replica_at(group, group.ids.binary_search(&id).ok()? as u16),
        }
    }

    /// The replica that had the name for itself before others joined: connections that began then are its own, and no
    /// affinity entry says so.
    #[must_use]
    pub fn former(&self) -> Option<Replica<'g>> {
        match self.replicas {
            Replicas::One(binding) => Some(self.only(binding)),
            Replicas::Several(group) => self.replica_at(group, group.former?),
        }
    }

    /// True if a replica takes new connections now: it is active, or stands by while none is.
    #[must_use]
    pub fn takes_new(&self, binding: &Binding) -> bool {
        let any_active = || self.choose(0).is_some_and(|chosen| chosen.binding.is_active());
        binding.is_active() || (binding.is_eligible() && !any_active())
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

    fn only(&self, binding: &'g Binding) -> Replica<'g> {
        Replica { binding, id: ReplicaId::of(self.view.identity(binding)) }
    }

    #[inline]
    fn replica_at(&self, group: &'g Group, position: u16) -> Option<Replica<'g>> {
        let id = *group.ids.get(usize::from(position))?;
        Some(Replica { binding: self.at(group, position)?, id })
    }

    #[inline]
    fn at(&self, group: &'g Group, position: u16) -> Option<&'g Binding> {
        self.view.binding(*group.replicas.get(usize::from(position))?)
    }
}
