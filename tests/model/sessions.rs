//! Claims about sessions: what keeps them, what does not, and what is refused.

use rstest::{Context, rstest};

use crate::common::{example, said, shiftcheck};

#[rstest]
fn a_weighted_split_keeps_no_sessions_and_the_cause_is_named(
    #[values(&["verify"], &["run", "--cluster", "embedded", "--no-report"])] command: &[&str],
) {
    let (printed, errors, code) = said(&shiftcheck(&[command, &["fixtures/sticky-split"]].concat()).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("✗ users: sessions stay at their pod — "), "{printed}");
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    let cause = "the rule chooses subset v1 or subset v2 by weight, separately for each request; consistentHash (fixtures/sticky-split/dr-hello.yaml:9:7) only chooses among the pods of one destination";
    assert!(words.contains(cause), "{printed}");
}

#[rstest]
#[case::another_header(
    "httpHeaderName: x-user",
    "httpHeaderName: x-usr",
    "hashes the header x-usr, which these requests do not have, so that each of them goes to any pod"
)]
#[case::no_hash(
    "consistentHash: {httpHeaderName: x-user}",
    "simple: ROUND_ROBIN",
    "no consistentHash applies to svc-hello, so that each request goes to any pod"
)]
fn sessions_that_no_hash_keeps_fail_and_the_cause_is_named(
    #[case] from: &str,
    #[case] to: &str,
    #[case] cause: &str,
    #[values(&["verify"], &["run", "--cluster", "embedded", "--no-report"])] command: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky", "dr-hello.yaml", from, to);
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("✗ users: sessions stay at their pod; of the sessions v1 100 % — "), "{printed}");
    assert!(printed.split_whitespace().collect::<Vec<_>>().join(" ").contains(cause), "{printed}");
}

#[rstest]
#[case::without_a_lifetime(
    ", ttl: 3600s",
    "",
    "its `httpCookie` (FOLDER/sticky-cookie/dr-hello.yaml:9:7) has no `ttl`, such as `ttl: 0s`"
)]
#[case::another_cookie(
    "name: user",
    "name: usr",
    "consistentHash (FOLDER/sticky-cookie/dr-hello.yaml:9:7) hashes the cookie usr, which is set for 3600s and /"
)]
#[case::for_another_path(
    "path: /",
    "path: /shop",
    "`httpCookie` (FOLDER/sticky-cookie/dr-hello.yaml:9:7) sets it for requests below /shop alone"
)]
#[case::no_hash(
    "consistentHash:\n        # only with a `ttl`, the proxy sets the cookie for callers that have none\n        httpCookie: {name: user, path: /, ttl: 3600s}",
    "simple: RANDOM",
    "no consistentHash applies"
)]
fn sessions_whose_cookie_is_never_set_fail_and_a_run_refuses_them(
    #[case] from: &str,
    #[case] to: &str,
    #[case] cause: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky-cookie", "dr-hello.yaml", from, to);
    let (printed, _, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    let printed = printed.replace(folder.path().to_str().unwrap(), "FOLDER");
    let because = format!("because the proxy does not set the cookie `user`: {cause}\n");
    assert_eq!((code, printed.matches(&because).count()), (Some(1), 3), "{printed}");
    let run = &["run", "--cluster", "embedded", "--no-report", &path];
    let (_, errors, code) = said(&shiftcheck(run).output().unwrap());
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    let refused = format!(
        "FOLDER/sticky-cookie/scenario.yaml:10:21: `users` has no sessions at /: the proxy does not set the cookie `user`: {cause}. Give the DestinationRule"
    );
    assert!(code == Some(2) && errors.contains(&refused), "{errors}");
}

#[rstest]
fn a_cookie_that_an_unknown_image_may_set_is_undecided(
    #[values(&["verify"], &["run", "--cluster", "embedded", "--no-report"])] command: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky-cookie", "dr-hello.yaml", ", ttl: 3600s", "");
    for manifest in ["canary/hello-server-v1.yaml", "canary/hello-server-v2.yaml", "sticky/hello-server-v2.yaml"] {
        let manifest = format!("{path}/{manifest}");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(&manifest, text.replace("image: hello-server:", "image: shop:")).unwrap();
    }
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    assert!(printed.contains("whether the image `shop:v1` sets the cookie `user`"), "{printed}");
}

const MATCH: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs-hello}
spec:
  hosts: [svc-hello]
  http:
    - match: [{headers: {cookie: {regex: '.*user=.*'}}}]
      route: [{destination: {host: svc-hello}}]
    - route: [{destination: {host: svc-hello}}]
";

#[test]
fn a_cookie_that_a_rule_sets_leaves_its_sessions_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky-cookie", "scenario.yaml", "dr-hello.yaml]", "vs.yaml]");
    let rule = MATCH.split("    - match").next().unwrap();
    let route = "    - route:\n        - destination: {host: svc-hello}\n          headers: {response: {add: {Set-Cookie: user=ann}}}\n";
    std::fs::write(format!("{path}/vs.yaml"), format!("{rule}{route}")).unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    let unknown = "what the rule does to the cookies of responses can affect these requests";
    assert!(printed.contains(unknown), "{printed}");
}

#[test]
fn a_match_of_the_cookie_leaves_its_sessions_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky-cookie", "scenario.yaml", "dr-hello.yaml]", "dr-hello.yaml, vs.yaml]");
    std::fs::write(format!("{path}/vs.yaml"), MATCH).unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    let unknown = "whether a rule matches the value of the cookie `user` can affect these requests";
    assert!(printed.contains(unknown), "{printed}");
    let other = MATCH.replace("user=", "usr=");
    std::fs::write(format!("{path}/vs.yaml"), other).unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

const CLAIM: &str = "sessions: {stay: 100%, get: {v1: 66.7%, v2: 33.3%}}, error-rates: {deviation: 20%}";
const USERS: &str = "{sessions: {header: x-user, count: 1000}}";

#[rstest]
#[case::a_population_without_sessions(USERS, "{}")]
#[case::sessions_as_a_number(USERS, "{sessions: 200}")]
#[case::one_session(USERS, "{sessions: {header: x-user, count: 1}}")]
#[case::too_many_sessions(USERS, "{sessions: {header: x-user, count: 10001}}")]
#[case::a_key_that_is_no_header(USERS, "{sessions: {header: x user, count: 1000}}")]
#[case::a_key_that_is_set(USERS, "{headers: {X-User: ann}, sessions: {header: x-user, count: 1000}}")]
#[case::sessions_without_a_key(USERS, "{sessions: {count: 1000}}")]
#[case::sessions_with_two_keys(USERS, "{sessions: {header: x-user, cookie: user, count: 1000}}")]
#[case::a_cookie_that_has_no_name(USERS, "{sessions: {cookie: 'my user', count: 1000}}")]
#[case::a_cookie_that_is_sent(
    USERS,
    "{headers: {Cookie: 'theme=dark; user=ann'}, sessions: {cookie: user, count: 1000}}"
)]
#[case::a_parameter_with_two_words(USERS, "{sessions: {query: 'my user', count: 1000}}")]
#[case::a_cookie_that_is_never_set(USERS, "{sessions: {cookie: user, count: 1000}}")]
#[case::a_host_as_the_key(USERS, "{sessions: {header: Host, count: 1000}}")]
#[case::sessions_of_several_kinds(
    USERS,
    "{any-of: [{headers: {a: b}}, {headers: {a: c}}], sessions: {header: x-user, count: 1000}}"
)]
#[case::sessions_that_stay_in_part("sessions: {stay: 100%, get: {v1: 100%}}", "sessions: {stay: 99%}")]
#[case::sessions_that_claim_nothing("sessions: {stay: 100%, get: {v1: 100%}}", "sessions: {}")]
#[case::stay_as_a_mapping("sessions: {stay: 100%, get: {v1: 100%}}", "sessions: {stay: {v1: 100%}}")]
#[case::sessions_with_get("sessions: {stay: 100%, get: {v1: 100%}}", "sessions: {stay: 100%}, get: {v1: 100%}")]
#[case::sessions_behind_another_service(
    "sessions: {stay: 100%, get: {v1: 100%}}",
    "path: /via/svc-back, sessions: {stay: 100%}"
)]
#[case::shares_that_do_not_sum(CLAIM, "sessions: {get: {v1: 50%, v2: 40%}}")]
#[case::too_few_sessions("deviation: 20%", "deviation: 15%")]
#[case::too_few_sessions_for_all_of_a_version(USERS, "{sessions: {header: x-user, count: 687}}")]
#[case::a_deviation_that_no_ring_allows(CLAIM, "sessions: {get: {v1: 66.7%, v2: 33.3%}}")]
#[case::a_share_of_requests(CLAIM, "get: {v1: 66.7%, v2: 33.3%}")]
fn a_claim_about_sessions_that_cannot_be_decided_is_told_with_its_place(
    #[context] context: Context,
    #[case] from: &str,
    #[case] to: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky", "scenario.yaml", from, to);
    let (printed, errors, code) =
        said(&shiftcheck(&["run", "--cluster", "embedded", "--no-report", &path]).output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(2), ""), "{errors}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

#[test]
fn calls_of_grpc_have_no_query_with_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        example(folder.path(), "sticky-query", "scenario.yaml", "http://svc-hello:8080", "grpc://svc-hello:8080");
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let told = "scenario.yaml:11:29: calls of gRPC have no query; tell sessions apart by `header` or `cookie`";
    assert!(errors.contains(told), "{errors}");
}

#[test]
fn a_path_with_the_parameter_of_the_sessions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let claim = "{from: users, sessions: {stay: 100%, get: {v1: 100%}}}";
    let with_path = claim.replace("users,", "users, path: '/?a=b&user=ann',");
    let path = example(folder.path(), "sticky-query", "scenario.yaml", claim, &with_path);
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let told = "scenario.yaml:17:29: the parameter `user` is the key of the sessions; remove it from the path";
    assert!(errors.contains(told), "{errors}");
}

#[test]
fn sessions_of_one_address_stay_and_their_shares_are_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky", "dr-hello.yaml", "httpHeaderName: x-user", "useSourceIp: true");
    let (printed, _, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}");
    let scenario = format!("{path}/scenario.yaml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    std::fs::write(&scenario, text.replace(CLAIM, "sessions: {stay: 100%}")).unwrap();
    for command in [&["verify"][..], &["run", "--cluster", "embedded", "--no-report"]] {
        let (printed, errors, code) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
        assert_eq!(code, Some(0), "{printed}{errors}");
    }
}

#[test]
fn requests_of_one_key_get_one_pod_so_that_their_share_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = example(
        folder.path(),
        "sticky",
        "scenario.yaml",
        "  users: {sessions: {header: x-user, count: 1000}}\n",
        "  users: {sessions: {header: x-user, count: 1000}}\n  ann: {headers: {x-user: ann}}\n",
    );
    let scenario = format!("{path}/scenario.yaml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    let claimed = text.replace("      - {during: {errors: 0}}\n", "      - {from: ann, get: {v1: 66%, v2: 34%}}\n");
    assert_ne!(text, claimed);
    std::fs::write(&scenario, claimed).unwrap();
    let (_, errors, code) =
        said(&shiftcheck(&["run", "--cluster", "embedded", "--no-report", &path]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("give the population `sessions: {header: NAME, count: 1000}`"), "{errors}");
}

#[test]
fn session_persistence_of_the_gateway_api_leaves_sessions_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "    - backendRefs:\n";
    let persistent = "    - sessionPersistence: {sessionName: user, type: Cookie}\n      backendRefs:\n";
    let path = example(folder.path(), "gateway-api", "route-10.yaml", rule, persistent);
    let scenario = format!("{path}/scenario.yaml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    let claimed = text
        .replace("  everyone: {}\n", "  everyone: {sessions: {header: x-user, count: 200}}\n")
        .replace("get: {v1: 90%, v2: 10%}, error-rates: {deviation: 5%}", "sessions: {stay: 100%}");
    assert_eq!(claimed.matches("sessions:").count(), 2, "{claimed}");
    std::fs::write(&scenario, claimed).unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    let cause = "spec.rules[0].sessionPersistence can affect these requests and is not modelled";
    assert!(printed.contains("everyone: sessions stay at their") && printed.contains(cause), "{printed}");
}

/// A copy of `fixtures/sticky-split` whose users are to keep v2, with these rules.
fn keeping(folder: &std::path::Path, rules: &str) -> String {
    let path = example(folder, "sticky-split", "scenario.yaml", "header: x-user", "cookie: canary");
    let scenario = format!("{path}/scenario.yaml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    std::fs::write(&scenario, text.replace("{stay: 100%}", "{keep: v2}")).unwrap();
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs-hello}\nspec:\n  hosts: [svc-hello]\n  http:\n";
    std::fs::write(format!("{path}/vs-hello.yaml"), format!("{rule}{rules}")).unwrap();
    path
}

const OF_SESSIONS: &str = "    - match: [{headers: {cookie: {regex: '.*canary.*always.*'}}}]\n      route: [{destination: {host: svc-hello, subset: v2}}]\n";
const BY_WEIGHT: &str = "    - route:
        - {destination: {host: svc-hello, subset: v1}, weight: 75}
        - destination: {host: svc-hello, subset: v2}
          weight: 25
          headers: {response: {add: {Set-Cookie: canary=always; Max-Age=60}}}
";

#[rstest]
fn a_rule_that_matches_the_cookie_of_the_new_version_keeps_its_sessions(
    #[values(&["verify"], &["run", "--cluster", "embedded", "--no-report"])] command: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), &format!("{OF_SESSIONS}{BY_WEIGHT}"));
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let told = match command {
        ["verify"] => "users: sessions keep v2 — the manifests give v1 75 %, v2 25 %, and sessions keep v2 by",
        _ => {
            " sessions that v2 answered kept it in 688 later requests; less than 1.00 % of the later requests go elsewhere with 99.9 % confidence"
        }
    };
    assert!(printed.split_whitespace().collect::<Vec<_>>().join(" ").contains(told), "{printed}");
}

#[rstest]
#[case::no_rule_for_the_cookie(
    BY_WEIGHT.to_owned(),
    "a session that v2 has answered has the cookie `canary=always`, and VirtualService vs-hello (FOLDER/sticky-split/vs-hello.yaml:7:7) gives it v1"
)]
#[case::another_value(
    format!("{}{BY_WEIGHT}", OF_SESSIONS.replace("always", "never")),
    "a session that v2 has answered has the cookie `canary=always`, and VirtualService vs-hello (FOLDER/sticky-split/vs-hello.yaml:9:7) gives it v1"
)]
#[case::the_rule_for_the_cookie_comes_last(
    format!("{BY_WEIGHT}{OF_SESSIONS}"),
    "a session that v2 has answered has the cookie `canary=always`, and VirtualService vs-hello (FOLDER/sticky-split/vs-hello.yaml:7:7) gives it v1"
)]
#[case::no_cookie(
    format!("{OF_SESSIONS}{}", BY_WEIGHT.replace("canary=always", "other=always")),
    "no response of v2 leaves a session with the cookie `canary`, and VirtualService vs-hello (FOLDER/sticky-split/vs-hello.yaml:9:7) gives it v1"
)]
#[case::a_cookie_that_is_deleted_at_once(
    format!("{OF_SESSIONS}{}", BY_WEIGHT.replace("Max-Age=60", "Max-Age=-1")),
    "no response of v2 leaves a session with the cookie `canary`, and VirtualService vs-hello (FOLDER/sticky-split/vs-hello.yaml:9:7) gives it v1"
)]
#[case::a_cookie_for_other_paths(
    format!("{OF_SESSIONS}{}", BY_WEIGHT.replace("Max-Age=60", "Path=/shop")),
    "no response of v2 leaves a session with the cookie `canary`, and VirtualService vs-hello (FOLDER/sticky-split/vs-hello.yaml:9:7) gives it v1"
)]
fn sessions_that_leave_the_new_version_fail_and_the_cause_is_named(
    #[case] rules: String,
    #[case] cause: &str,
    #[values(&["verify"], &["run", "--cluster", "embedded", "--no-report"])] command: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), &rules);
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&path]].concat()).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    let printed = printed.replace(folder.path().to_str().unwrap(), "FOLDER");
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("✗ users: sessions keep v2 — ") && words.contains(cause), "{printed}");
    assert!(command[0] == "verify" || words.contains("did not keep it in 688 later requests: session-"), "{printed}");
}

#[test]
fn sessions_of_an_image_that_may_set_the_cookie_are_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), &BY_WEIGHT.replace("canary=always", "other=always"));
    let manifest = format!("{path}/canary/hello-server-v2.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("image: hello-server:", "image: shop:")).unwrap();
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    assert!(printed.contains("whether the image `shop:v2` sets the cookie `canary`"), "{printed}");
}

#[rstest]
#[case::a_version_that_nothing_gives("{keep: v2}", "{keep: v3}")]
#[case::keep_and_stay("{keep: v2}", "{stay: 100%, keep: v2}")]
#[case::keep_and_get("{keep: v2}", "{keep: v2, get: {v1: 75%, v2: 25%}}")]
#[case::keep_without_a_cookie("cookie: canary", "header: x-user")]
#[case::keep_as_a_list("{keep: v2}", "{keep: [v2]}")]
fn a_version_that_sessions_cannot_keep_is_told_with_its_place(
    #[context] context: Context,
    #[case] from: &str,
    #[case] to: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = keeping(folder.path(), &format!("{OF_SESSIONS}{BY_WEIGHT}"));
    let scenario = format!("{path}/scenario.yaml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&scenario, text.replace(from, to)).unwrap();
    let run = &["run", "--cluster", "embedded", "--no-report", &path];
    let (printed, errors, code) = said(&shiftcheck(run).output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(2), ""), "{errors}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}
