use super::*;

/// Names that mix scripts, by the escapes of their foreign letters, and what they pass for.
const MIXED: [(&str, &str); 34] = [
    ("ex\u{430}mple.org", "example.org"),
    ("\u{435}xample.org", "example.org"),
    ("exam\u{440}le.org", "example.org"),
    ("example.\u{43e}rg", "example.org"),
    ("www.ex\u{430}mple.org", "www.example.org"),
    ("example.org.ex\u{430}mple.com", "example.org"),
    ("EX\u{410}MPLE.org", "example.org"),
    ("p\u{430}ypal.com", "paypal.com"),
    ("payp\u{430}l.com", "paypal.com"),
    ("pa\u{443}pal.com", "paypal.com"),
    ("\u{440}aypal.com", "paypal.com"),
    ("\u{440}\u{430}ypal.com", "paypal.com"),
    ("paypa\u{4cf}.com", "paypal.com"),
    ("g\u{43e}ogle.com", "google.com"),
    ("go\u{3bf}gle.com", "google.com"),
    ("goo\u{581}le.com", "google.com"),
    ("g\u{585}\u{585}gle.com", "google.com"),
    ("\u{430}pple.com", "apple.com"),
    ("app\u{4cf}e.com", "apple.com"),
    ("amaz\u{43e}n.com", "amazon.com"),
    ("\u{3b1}mazon.com", "amazon.com"),
    ("micr\u{43e}soft.com", "microsoft.com"),
    ("mi\u{441}rosoft.com", "microsoft.com"),
    ("micros\u{43e}ft.com", "microsoft.com"),
    ("wikiped\u{456}a.org", "wikipedia.org"),
    ("wik\u{3b9}pedia.org", "wikipedia.org"),
    ("git\u{4bb}ub.com", "github.com"),
    ("\u{501}ebian.org", "debian.org"),
    ("debi\u{430}n.org", "debian.org"),
    ("twi\u{1d0}tter\u{43e}.com", "twitter.com"),
    ("facebo\u{585}k.com", "facebook.com"),
    ("\u{13a5}nstagram.com", "instagram.com"),
    ("\u{455}team.com", "steam.com"),
    ("bank\u{2d4f}f.com", "bankof.com"),
];

/// Names of one script that look like another's: taken, and shown in punycode.
const WHOLE: [(&str, &str); 18] = [
    ("\u{430}\u{440}\u{440}\u{4cf}\u{435}.com", "apple.com"),
    (
        "\u{440}\u{430}\u{443}\u{440}\u{430}\u{4cf}.com",
        "paypal.com",
    ),
    ("\u{455}\u{441}\u{43e}\u{440}\u{435}.com", "scope.com"),
    ("\u{435}\u{440}\u{456}\u{441}.com", "epic.com"),
    ("\u{445}\u{435}\u{440}\u{43e}\u{445}.com", "xepox.com"),
    ("\u{3bf}\u{3bf}.com", "oo.com"),
    ("ex\u{251}mple.org", "example.org"),
    ("examp\u{142}e.org", "example.org"),
    ("examp\u{13c}e.org", "example.org"),
    ("ex\u{e4}mple.org", "example.org"),
    ("\u{1eb9}xample.org", "example.org"),
    ("goog\u{142}e.com", "google.com"),
    ("g\u{f8}\u{f8}gle.com", "google.com"),
    ("\u{1e57}aypal.com", "paypal.com"),
    ("am\u{e0}zon.com", "amazon.com"),
    ("faceb\u{f6}ok.com", "facebook.com"),
    ("g\u{131}thub.com", "github.com"),
    ("wikip\u{e9}dia.org", "wikipedia.org"),
];

#[test]
fn t30_names_of_mixed_scripts_are_refused() {
    for (name, real) in MIXED {
        let refused = SiteName::parse(name);
        assert!(
            matches!(refused, Err(NameError::MixedScripts(_))),
            "{name} for {real}: {refused:?}"
        );
        let url = SiteName::from_url(&format!("https://{name}/"));
        assert!(matches!(url, Err(NameError::MixedScripts(_))), "{url:?}");
    }
    // Also where somebody else wrote the punycode, as in a signed manifest.
    let refused = SiteName::parse_canonical("xn--exmple-4nf.org");
    assert!(
        matches!(refused, Err(NameError::MixedScripts(_))),
        "{refused:?}"
    );
}

#[test]
fn t30_names_of_one_script_are_shown_in_punycode_and_never_equal_what_they_look_like() {
    for (name, real) in WHOLE {
        let name = SiteName::parse(name).unwrap();
        let real = SiteName::parse(real).unwrap();
        assert_ne!(name, real);
        for shown in [name.to_string(), format!("{name:?}"), name.as_str().into()] {
            assert!(shown.is_ascii() && shown.contains("xn--"), "{shown}");
        }
        assert_ne!(name.label(), real.label());
    }
}

#[test]
fn names_as_languages_write_them_are_taken() {
    for name in [
        "bücher.example",
        "пример.example",
        "παράδειγμα.example",
        "例え.example",
        "日本語カタカナひらがな.example",
        "sony日本.example",
        "中文abc.example",
        "한국어korea.example",
        "الأردن.example",
        "пример-1.example.org",
        "i❤.example",
        "bücher.пример",
    ] {
        assert!(
            SiteName::parse(name).is_ok(),
            "{name}: {:?}",
            SiteName::parse(name)
        );
    }
}
