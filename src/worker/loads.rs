//! When which cluster of a host had load: what nobody can attribute counts for the only one that did at that time. Source: detection
//! design, section 3.6.

use crate::{analytics::case::Item, model::code::Class, time::Span};

/// Spans of load that meets class R, by cluster.
#[derive(Debug)]
pub(super) struct Loads(Vec<(usize, Span)>);

impl Loads {
    /// Of the clusters' items, in the order of the clusters.
    pub(super) fn of<'a>(clusters: impl Iterator<Item = Vec<&'a Item>>) -> Self {
        let met = |i: &&Item| i.code.class() == Class::R && i.points >= Class::R.minimum();
        let spans = |n: usize, items: Vec<&'a Item>| items.into_iter().filter(met).filter_map(Item::span).map(|s| (n, s)).collect::<Vec<_>>();
        Self(clusters.enumerate().flat_map(|(n, items)| spans(n, items)).collect())
    }

    /// Whether what happened in the span happened beside the load of this cluster and no other.
    pub(super) fn only(&self, cluster: usize, span: &Span) -> bool {
        let mut met = self.0.iter().filter(|(_, s)| s.overlaps(span)).map(|(n, _)| *n).peekable();
        met.peek().is_some() && met.all(|n| n == cluster)
    }

    /// Whether what happened in the span belongs to the load of one other cluster.
    pub(super) fn others(&self, cluster: usize, span: &Span) -> bool {
        self.0.iter().find(|(_, s)| s.overlaps(span)).is_some_and(|(n, _)| *n != cluster && self.only(*n, span))
    }

    /// From the first to the last load of the cluster.
    pub(super) fn reach(&self, cluster: usize) -> Option<Span> {
        let spans = || self.0.iter().filter(|(n, _)| *n == cluster).map(|(_, s)| s);
        Span::new(spans().map(Span::since).min()?, spans().map(Span::until).max()?)
    }
}
