//! Pages of lists in the model.

use super::operations::{Name, Page, Paging};

/// A page of a list that is ordered by age.
pub(super) fn page(names: impl Iterator<Item = Name>, paging: &Paging, ages: &[Name]) -> Page<Name> {
    let age = |name: Name| ages.iter().position(|it| *it == name).unwrap_or(usize::MAX);
    let mut items: Vec<_> = names
        .filter(|it| {
            paging.after.is_none_or(
                |after| {
                    if paging.descending { age(*it) < age(after) } else { age(*it) > age(after) }
                },
            )
        })
        .collect();
    items.sort_by_key(|it| age(*it));
    if paging.descending {
        items.reverse();
    }
    let more = items.len() > paging.limit;
    items.truncate(paging.limit);
    Page { items, more }
}

impl Page<Name> {
    pub(super) fn of<T>(self, view: impl Fn(Name) -> T) -> Page<T> {
        Page { items: self.items.into_iter().map(view).collect(), more: self.more }
    }
}
