//! The word that was probably meant.

/// The word of `known` that is nearest to `written`, if it is near: at most a third of its letters differ.
pub(super) fn nearest<'k, T: AsRef<str>>(written: &str, known: &'k [T]) -> Option<&'k str> {
    let (distance, word) =
        known.iter().map(AsRef::as_ref).map(|word| (distance(written, word), word)).min_by_key(|&(d, _)| d)?;
    (distance <= written.chars().count().max(3) / 3).then_some(word)
}

/// How many letters must be inserted, deleted, replaced or swapped with their neighbour to make `b` of `a`
/// (restricted Damerau-Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known = ["interface", "network", "role", "mac"];
        assert_eq!(nearest("netwrok", &known), Some("network"));
        assert_eq!(nearest("interfaces", &known), Some("interface"));
        assert_eq!(nearest("mca", &known), Some("mac"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &[] as &[&str]), None);
    }
}
