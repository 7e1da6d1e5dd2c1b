//! What is made from the command line's description, and wrong command lines.

use crate::program::Person;

#[test]
fn completions_exist_for_every_shell() {
    let person = Person::stranger();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = person.run(&format!("completion {shell}"));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(ended.out.contains("boot-report"), "{shell}");
    }
    let script = person.file("bash", &person.run("completion bash").out);
    let checked = std::process::Command::new("bash")
        .arg("-n")
        .arg(&script)
        .status();
    assert!(checked.unwrap().success());
}

#[test]
fn man_pages_exist_for_every_command() {
    let person = Person::stranger();
    let ended = person.run("man pages");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let folder = person.folder.path().join("pages");
    for page in [
        "keelsonctl.1",
        "keelsonctl-get.1",
        "keelsonctl-config-new.1",
    ] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn help_names_the_exit_codes_and_wrong_usage_has_one() {
    let person = Person::stranger();
    let help = person.run("--help");
    assert_eq!(help.code, Some(0));
    assert!(
        help.out.contains("  5    health: a check has not passed"),
        "{}",
        help.out
    );
    for command in [
        "",
        "frobnicate",
        "get",
        "get nothing",
        "logs",
        "status --timeout 0s",
    ] {
        let ended = person.run(command);
        assert_eq!(ended.code, Some(2), "{command:?}: {}", ended.err);
    }
}
