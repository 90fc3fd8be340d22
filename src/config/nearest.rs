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
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, delete or replace to make one text the other (Levenshtein 1966).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (wanted, &up) in other.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(letter != wanted);
            left = replaced.min(left + 1).min(up + 1);
            diagonal = up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_wrong_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("max_conections", "max_connections", 1),
            ("abc", "abc", 0),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_name_like_no_other_suggests_nothing() {
        assert_eq!(nearest("colour", ["listen", "level"]), None);
        assert_eq!(nearest("lisen", ["level", "listen"]), Some("listen"));
    }
}
