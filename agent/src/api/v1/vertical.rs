//! Lines of business: the upstream's words, and the texts that the reference client had for them.
//! Guesses nothing: a text that is neither is none.

/// The upstream's word, and the reference's text, as [`plain`] leaves them.
const VERTICALS: &[(&str, &str)] = &[
    ("OTHER", "other"),
    ("AUTO", "automotive"),
    ("BEAUTY", "beautyspasalon"),
    ("APPAREL", "clothingapparel"),
    ("EDU", "education"),
    ("ENTERTAIN", "entertainment"),
    ("EVENT_PLAN", "eventplanningservice"),
    ("FINANCE", "financebanking"),
    ("GROCERY", "foodgrocery"),
    ("GOVT", "publicservice"),
    ("HOTEL", "hotellodging"),
    ("HEALTH", "medicalhealth"),
    ("NONPROFIT", "nonprofit"),
    ("PROF_SERVICES", "professionalservices"),
    ("RETAIL", "shoppingretail"),
    ("TRAVEL", "traveltransportation"),
    ("RESTAURANT", "restaurant"),
    ("ALCOHOL", "alcoholicbeverages"),
    ("ONLINE_GAMBLING", "onlinegamblinggaming"),
    ("PHYSICAL_GAMBLING", "nononlinegamblinggaming"),
    ("OTC_DRUGS", "overthecounterdrugs"),
    ("MATRIMONY_SERVICE", "matrimonialservice"),
];

/// The upstream's word for what a client wrote, in either spelling.
pub fn word(text: &str) -> Option<&'static str> {
    let wanted = plain(text);
    let found = VERTICALS
        .iter()
        .find(|(word, old)| *old == wanted || plain(word) == wanted);
    found.map(|(word, _)| *word)
}

/// All of the upstream's words that may be set.
pub fn words() -> impl Iterator<Item = &'static str> {
    VERTICALS.iter().map(|(word, _)| *word)
}

/// Letters and digits in lower case, without the word "and".
fn plain(text: &str) -> String {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| *part != "and")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the reference's clients wrote is understood, and nothing is guessed. Method: texts of its documentation,
    /// words of the upstream, and neither.
    #[test]
    fn old_texts_and_new_words_are_one() {
        for (text, wanted) in [
            ("Beauty, Spa and Salon", "BEAUTY"),
            ("Clothing & Apparel", "APPAREL"),
            ("Non-profit", "NONPROFIT"),
            ("shopping and retail", "RETAIL"),
            ("PROF_SERVICES", "PROF_SERVICES"),
            ("edu", "EDU"),
            ("Event Planning and Service", "EVENT_PLAN"),
        ] {
            assert_eq!(word(text), Some(wanted), "{text}");
        }
        for nothing in ["", "and", "UNDEFINED", "NOT_A_BIZ", "Shop", "RETAILER"] {
            assert_eq!(word(nothing), None, "{nothing}");
        }
        assert!(words().all(|one| word(one) == Some(one)));
    }
}
