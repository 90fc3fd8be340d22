//! The known name that a mistyped one was probably meant to be.

/// The nearest of `known`, if one is near enough: a letter in three may be wrong.
pub(super) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let letters = typed.chars().count();
    let allowed = (letters / 3).max(1);
    known
        .into_iter()
        // Also keeps a name of a million letters from being compared letter by letter.
        .filter(|name| name.chars().count().abs_diff(letters) <= allowed)
        .map(|name| (strsim::levenshtein(typed, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_like_no_other_suggests_nothing() {
        assert_eq!(nearest("colour", ["listen", "level"]), None);
        assert_eq!(nearest("lisen", ["level", "listen"]), Some("listen"));
    }
}
