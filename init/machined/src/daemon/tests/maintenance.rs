//! A node without a usable configuration: what it shows, and how it gets one.

use super::lab::{Lab, Runs, config, in_lab};
use super::pid1::LEASE;
use crate::daemon::handle::RequestError;

/// A request for a certificate.
fn request(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.serialize_request(&key).unwrap().pem().unwrap()
}

/// The code on the console.
fn shown_code(lab: &Lab) -> String {
    let world = lab.world.borrow();
    let line = world
        .shown
        .iter()
        .rev()
        .find(|line| line.contains("keelsonctl apply"));
    let line = line.unwrap_or_else(|| panic!("{:#?}", world.shown));
    let (_, rest) = line.split_once("--code ").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

async fn waiting(lab: &Lab) -> Runs {
    let runs = lab.start_until("api").await;
    lab.until("the invitation", |lab| {
        let world = lab.world.borrow();
        world
            .shown
            .iter()
            .any(|line| line.contains("fingerprint of"))
    })
    .await;
    runs
}

#[test]
fn without_a_configuration_the_console_shows_how_to_give_one() {
    in_lab(None, async |lab| {
        waiting(lab).await;
        let world = lab.world.borrow();
        assert!(world.has("maintenance") && !world.has("config") && !world.has("pki"));
        let text = world.messages.join("\n");
        assert!(text.contains("none was given"), "{text}");
        assert!(text.contains("first partition (FAT)"), "{text}");
        let authority = lab.text("run/keelson/rendered/api-ca.crt");
        let fingerprint = keelson_pki::summary(authority.as_bytes())
            .unwrap()
            .fingerprint;
        // Whoever may read the kernel's log must not become admin by it.
        let code = world
            .shown
            .iter()
            .find_map(|line| line.strip_prefix("maintenance: one-time code "))
            .unwrap();
        let command = format!(
            "keelsonctl apply --code {code} --fingerprint {fingerprint} -n {LEASE} -f keelson.yaml"
        );
        assert!(world.shown.iter().any(|line| line.trim() == command));
        assert!(!text.contains(code), "{text}");
        assert_eq!(
            lab.text("run/keelson/apid/access.json"),
            "{\"mode\":\"maintenance\",\"revoked\":[]}"
        );
        let pair = lab.text("run/keelson/secrets/apid/serving.pem");
        assert_eq!(pair.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(pair.ends_with("-----END PRIVATE KEY-----\n"));
        // Nothing of a cluster exists yet.
        assert!(!lab.exists("system/state/pki/cluster-ca.pem"));
    });
}

#[test]
fn the_code_gives_the_node_its_configuration_and_the_caller_a_certificate() {
    in_lab(None, async |lab| {
        let runs = waiting(lab).await;
        let yaml = config("hostname: fed\n");
        let admission = runs
            .handle
            .feed(&shown_code(lab), yaml.clone(), &request("Ada"))
            .await
            .unwrap();
        let summary = keelson_pki::summary(admission.certificate.as_bytes()).unwrap();
        assert_eq!(summary.subject, "O=keelson:admin, CN=Ada");
        // From here on a power cut changes nothing any more.
        assert_eq!(lab.text("system/state/config/keelson.yaml"), yaml);
        lab.until("pki", |lab| lab.world.borrow().has("pki")).await;
        {
            let world = lab.world.borrow();
            assert!(!world.has("maintenance") && world.has("config"));
            assert_eq!(world.restarts, ["netd"]);
            assert_eq!(world.facts["node-name"], "fed");
        }
        assert_eq!(
            lab.text("run/keelson/apid/access.json"),
            "{\"mode\":\"normal\",\"revoked\":[]}"
        );
        let again = runs
            .handle
            .feed("0000-0000", config(""), &request("Eve"))
            .await;
        assert!(matches!(again, Err(RequestError::NotNow(_))));
        let list = runs.handle.certificates().await.unwrap();
        assert!(
            list.iter()
                .any(|known| known.name == "api/Ada" && known.kind == "person")
        );
    });
}

#[test]
fn a_bad_configuration_or_request_does_not_use_the_code_up() {
    in_lab(None, async |lab| {
        let runs = waiting(lab).await;
        let code = shown_code(lab);
        let feed = async |yaml: &str, request: &str| {
            let error = runs.handle.feed(&code, yaml.to_owned(), request).await;
            match error.unwrap_err() {
                RequestError::Invalid(text) => text,
                other => panic!("{other:?}"),
            }
        };
        let typo = feed(&config("hostnam: x\n"), &request("Ada")).await;
        assert!(typo.contains("did you mean `hostname`?"), "{typo}");
        assert!(feed(&config(""), "no request").await.contains("PKCS #10"));
        assert!(
            feed(&config(""), &request("a,O=x"))
                .await
                .contains("common name")
        );
        assert!(!lab.exists("system/state/config/keelson.yaml"));
        assert_eq!(shown_code(lab), code);
        let fed = runs.handle.feed(&code, config(""), &request("Ada")).await;
        assert!(fed.is_ok());
    });
}

#[test]
fn ten_wrong_codes_bring_a_new_one_to_the_console() {
    in_lab(None, async |lab| {
        let runs = waiting(lab).await;
        let first = shown_code(lab);
        for _ in 0..10 {
            let wrong = runs.handle.feed("?", config(""), &request("Eve")).await;
            assert!(matches!(wrong, Err(RequestError::Denied(_))), "{wrong:?}");
        }
        lab.until("a new code", |lab| shown_code(lab) != first)
            .await;
        let late = runs.handle.feed(&first, config(""), &request("Eve")).await;
        assert!(matches!(late, Err(RequestError::Denied(_))));
        let fed = runs
            .handle
            .feed(&shown_code(lab), config(""), &request("Ada"))
            .await;
        assert!(fed.is_ok());
    });
}

#[test]
fn a_broken_configuration_is_explained_and_the_node_can_be_fed_again() {
    let broken = config("hostnam: typo\n");
    in_lab(Some(&broken), async |lab| {
        let runs = waiting(lab).await;
        {
            let world = lab.world.borrow();
            assert!(world.has("maintenance") && !world.has("config"));
            let messages = world.messages.join("\n");
            assert!(messages.contains("ESP:keelson.yaml:3:1"), "{messages}");
            assert!(messages.contains("hostnam"), "{messages}");
        }
        let asked = runs.handle.configuration(false).await;
        assert!(matches!(asked, Err(RequestError::NotNow(_))));
        *lab.firmware.0.borrow_mut() = Some(broken.replace("hostnam:", "hostname:"));
        lab.until("pki", |lab| lab.world.borrow().has("pki")).await;
        let world = lab.world.borrow();
        assert!(!world.has("maintenance"));
        assert_eq!(world.restarts, ["netd"]);
        assert_eq!(world.facts["node-name"], "typo");
        assert!(lab.text("run/keelson/node-config.yaml").contains("typo"));
    });
}

#[test]
fn a_person_with_a_certificate_needs_no_code() {
    in_lab(None, async |lab| {
        let runs = waiting(lab).await;
        let mode = crate::daemon::Mode::Try(std::time::Duration::from_secs(60));
        let trial = runs.handle.apply(config(""), mode, None).await;
        assert!(matches!(trial, Err(RequestError::NotNow(_))), "{trial:?}");
        runs.handle
            .apply(config("hostname: sent\n"), crate::daemon::Mode::Keep, None)
            .await
            .unwrap();
        lab.until("pki", |lab| lab.world.borrow().has("pki")).await;
        assert_eq!(lab.world.borrow().facts["node-name"], "sent");
    });
}

#[test]
fn a_killed_daemon_shows_another_code_and_the_same_authority() {
    in_lab(None, async |lab| {
        let runs = waiting(lab).await;
        let (code, authority) = (shown_code(lab), lab.text("run/keelson/rendered/api-ca.crt"));
        runs.kill().await;
        let runs = lab.start();
        lab.until("another code", |lab| shown_code(lab) != code)
            .await;
        assert_eq!(lab.text("run/keelson/rendered/api-ca.crt"), authority);
        let fed = runs.handle.feed(&code, config(""), &request("Eve")).await;
        assert!(matches!(fed, Err(RequestError::Denied(_))));
    });
}
