//! Each file parses into the types of Kubernetes, with no field that these do not have.

use crate::object::Object;
use crate::pod::judge;
use crate::rendering::{Rendering, all, examples};
use std::collections::BTreeSet;

#[test]
fn manifests_have_only_known_fields() {
    judge(all().iter().flat_map(|rendering| {
        let mut seen = BTreeSet::new();
        let key = |object: &Object| (object.kind.clone(), object.namespace.clone(), object.name.clone());
        let twice = rendering.objects.iter().filter(move |object| !seen.insert(key(object)));
        twice
            .map(|object| format!("{}: {object} is there twice: the second wins, remove one", rendering.path))
    }));
    assert!(examples().count() >= 20, "only {} examples", examples().count());
    judge(all().iter().filter(|r| r.objects.is_empty()).map(|r| format!("{}: nothing in it", r.path)));
}

#[test]
fn misspelt_and_duplicate_fields_are_refused() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: inside\n";
    Rendering::parse("sound", pod).unwrap();
    for (more, named) in [
        ("    imagePulPolicy: Never\n", "spec.containers.0.imagePulPolicy"),
        ("    name: twice\n", "duplicate"),
        ("    image: yes\n", "boolean `true`"),
        ("    ports: 6666\n", "sequence"),
        ("---\napiVersion: v1\nkind: Pud\nmetadata: {name: x}\n", "v1 Pud x"),
        ("---\napiVersion: keda.sh/v1alpha1\nkind: ScaledJob\nmetadata: {name: x}\nspek: {}\n", "spek"),
    ] {
        let refused = Rendering::parse("odd", &format!("{pod}{more}")).unwrap_err();
        assert!(refused.contains(named), "{more}: {refused}");
    }
}
