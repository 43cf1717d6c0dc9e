use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "listen = '127.0.0.1:1'\nupload = '8Mbit'\n").unwrap();
    let args = NodeArgs {
        listen: Some("127.0.0.1:2".parse().unwrap()),
        tracker: vec!["http://t.test/announce".into()],
        ..NodeArgs::default()
    };
    let config = configure(Some(&path), &args).unwrap();
    assert_eq!(config.listen, "127.0.0.1:2".parse().unwrap());
    assert_eq!(config.upload, Some(8_000_000));
    assert_eq!(config.trackers, ["http://t.test/announce"]);
}

#[test]
fn a_bad_file_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "peers_max = 5\nlistne = 5\n").unwrap();
    let failure = configure(Some(&path), &NodeArgs::default()).unwrap_err();
    let line = one_line(&failure.error);
    assert_eq!(failure.code, EXIT_CONFIG);
    assert!(line.contains("config.toml: line 2, column 1: "), "{line}");
    assert!(line.contains("listne"), "{line}");
    let missing = configure(Some(&dir.path().join("none")), &NodeArgs::default());
    assert_eq!(missing.unwrap_err().code, EXIT_CONFIG);
}
