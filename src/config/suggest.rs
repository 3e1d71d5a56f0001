//! "Did you mean": the nearest of the words that would have been right.

/// The word among `known` that `written` is most likely a misspelling of.
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let written = folded(written);
    let most = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (distance(&written, &folded(word)), word))
        .filter(|(distance, word)| *distance <= most || (written.len() >= 4 && folded(word).starts_with(&written)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Spellings that differ in case, `-` and `_` only are the same word here.
fn folded(word: &str) -> String {
    word.chars().take(64).filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// How many letters were left out, added, exchanged or swapped with their neighbour (optimal string alignment).
#[expect(clippy::indexing_slicing, reason = "the loops keep every index below the length")]
pub(super) fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_too_few_or_two_swapped_is_a_misspelling() {
        assert_eq!(nearest("scope", ["scopes", "resource"]), Some("scopes"));
        assert_eq!(nearest("upstraem", ["upstream", "path"]), Some("upstream"));
        assert_eq!(nearest("trustedProxies", ["trusted_proxies", "routes"]), Some("trusted_proxies"));
        assert_eq!(nearest("intro", ["introspection", "issuer"]), Some("introspection"));
    }

    #[test]
    fn another_word_is_no_misspelling() {
        assert_eq!(nearest("store", ["routes", "hosts", "log"]), None);
        assert_eq!(nearest("", ["routes"]), None);
    }
}
