//! Which model a request's name means.

use sanctum_config::{ModelAlias, ModelId};

/// A model with its names.
pub(crate) struct NamedModel<'a, T> {
    /// Its id.
    pub id: &'a ModelId,
    /// Its other names.
    pub aliases: &'a [ModelAlias],
    /// What is looked for.
    pub model: T,
}

/// The model that a name means: an id wins over an alias, of several aliases that match an exact one wins, and then the longest.
pub(crate) fn resolve<'a, T>(
    models: impl Iterator<Item = NamedModel<'a, T>>,
    name: &str,
) -> Option<T> {
    let ranked = models.filter_map(|named| {
        let matching = named.aliases.iter().filter(|alias| alias.matches(name));
        let rank = matching.map(|alias| match alias.prefix() {
            None => usize::MAX - 1,
            Some(prefix) => prefix.len(),
        });
        let rank = match named.id.as_str() == name {
            true => Some(usize::MAX),
            false => rank.max(),
        };
        Some((rank?, named.model))
    });
    // The first of equal ones.
    let best = ranked.reduce(|best, other| match other.0 > best.0 {
        true => other,
        false => best,
    });
    best.map(|(_, model)| model)
}
