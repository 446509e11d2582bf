//! HTTP endpoints.

use engine_model::spec::{ApiSpec, Spec};
use engine_model::{Code, Kind, Status};

use crate::support::*;

#[test]
fn an_endpoint_waits_for_its_function_and_is_then_served() {
    let mut platform = Platform::new();
    platform.must(key(Kind::API, "a"), create(api_spec("f")));
    let (status, reason) = platform.status(Kind::API, "a");
    assert_eq!(status, Status::Initialized);
    assert_eq!(reason, ["function f does not exist yet"]);
    assert!(engine_core::routes(&platform.world).is_empty());
    platform.must(
        key(Kind::BaseImage, "base"),
        create(base_image_spec("python3")),
    );
    platform.must(key(Kind::Image, "python"), create(image_spec("base", "")));
    platform.must(key(Kind::Function, "f"), create(function_spec("good")));
    platform.run();
    assert_eq!(platform.status(Kind::API, "a").0, Status::Ready);
    let disabled = ApiSpec {
        enabled: false,
        ..api_of("f")
    };
    assert_eq!(engine_core::routes(&platform.world).len(), 1);
    platform.must(key(Kind::API, "a"), update(Spec::API(disabled)));
    assert_eq!(platform.status(Kind::API, "a").0, Status::Updating);
    assert!(engine_core::routes(&platform.world).is_empty());
    platform.run();
    assert_eq!(platform.status(Kind::API, "a").0, Status::Ready);
    platform.check();
}

#[test]
fn what_no_request_could_match_is_refused() {
    let mut platform = Platform::new();
    let bad: [fn(&mut ApiSpec); 7] = [
        |spec| spec.uris.clear(),
        |spec| spec.uris = vec!["hello".into()],
        |spec| spec.uris = vec!["/hello?x=1".into()],
        |spec| spec.methods = vec!["FETCH".into()],
        |spec| spec.protocols = vec!["gopher".into()],
        |spec| spec.protocols.clear(),
        |spec| spec.hosts = vec!["a b".into()],
    ];
    for spoil in bad {
        let mut spec = api_of("f");
        spoil(&mut spec);
        let refused = platform.refused(key(Kind::API, "a"), create(Spec::API(spec)));
        assert_eq!(refused.code, Code::InvalidField, "{refused}");
    }
}
