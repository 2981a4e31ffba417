//! The lessons of k8s/examples/config: settings and secrets as variables, arguments and files.

use crate::namespace::{Namespace, Pod};

const POD: &str = "my-pod";

/// The namespace of one lesson. Its pods are all called `my-pod`.
struct Lesson(Namespace);

impl Lesson {
    fn new(name: &str, objects: &str) -> Lesson {
        let namespace = Namespace::new(name);
        namespace.apply_example(&format!("config/{objects}"));
        Lesson(namespace)
    }

    /// Applies a pod in place of the one before it and waits until it runs.
    #[track_caller]
    fn pod(&self, file: &str) -> Pod {
        self.0.says(&["delete", "pod", POD, "--ignore-not-found", "--wait=true"]);
        self.0.apply_example(&format!("config/{file}"));
        self.0.ready("name=my-pod", 1).remove(0)
    }

    /// Waits until the pod has printed exactly this.
    #[track_caller]
    fn prints(&self, expected: &str) {
        let mut said = String::new();
        let tell = || format!("{expected:?}\n{}", self.0.story());
        crate::waiting::until_or("the pod's words", tell, || {
            said = self.0.says(&["logs", POD]);
            (said == expected).then_some(())
        });
    }

    /// Checks that this pod was neither replaced nor restarted.
    #[track_caller]
    fn still_runs(&self, pod: &Pod) {
        let now = self.0.ready("name=my-pod", 1).remove(0);
        assert!(now.uid == pod.uid && now.restarts == 0, "{now:?}");
    }
}

#[test]
fn config_map_becomes_variables_and_arguments() {
    let lesson = Lesson::new("config", "simpleconfigmap.yaml");
    lesson.pod("podHardCodedEnv.yaml");
    lesson.prints("mysql.test:3306");
    lesson.pod("podManifest.yaml");
    lesson.prints("mysql.data:3306");
    lesson.pod("podManifestWithArgVariables.yaml");
    lesson.prints("--host mysql.data --port 3306");
    let pod = lesson.pod("podWithConfigMapReference.yaml");
    lesson.prints("mongo_host=mongo.data\nmysql_host=mysql.data\nmysql_port=3306");

    // A change reaches the next pod, and not the variables of this one.
    let patch = r#"{"data":{"mysql_port":"3307"}}"#;
    lesson.0.says(&["patch", "configmap", "data-sources", "--patch", patch]);
    assert!(lesson.0.exec(POD, &["env"]).contains("mysql_port=3306"));
    lesson.still_runs(&pod);
    lesson.pod("podWithConfigMapReference.yaml");
    lesson.prints("mongo_host=mongo.data\nmysql_host=mysql.data\nmysql_port=3307");
}

#[test]
fn changed_config_map_reaches_the_running_pod_as_a_file() {
    let lesson = Lesson::new("config-file", "configMapLongText.yaml");
    let pod = lesson.pod("podManifestVolume.yaml");
    let before = "[mysql]\nhost = mysql.data\nport = 3306\n[mongo]\nhost = mongo.data";
    lesson.prints(before);
    lesson.0.apply_example("config/configMapLongText_changed.yaml");
    lesson.prints(&format!("{before}\n{}", before.replace("3306", "3307")));
    lesson.still_runs(&pod);
}

#[test]
fn secret_becomes_variables_and_files_and_is_renewed_without_a_restart() {
    let lesson = Lesson::new("secret", "secrets/secretManifest.yaml");
    let encoded = lesson.0.says(&["get", "secret", "my-secrets", "-o", "jsonpath={.data.mysql_pass}"]);
    assert_eq!(encoded, "SHVzaEh1c2g=");
    lesson.pod("secrets/podManifestFromEnv.yaml");
    lesson.prints("mysql_pass=HushHush\nmysql_user=ernie");
    lesson.pod("secrets/podManifestSelectedEnvs.yaml");
    lesson.prints("ernie");
    let environment = lesson.0.exec(POD, &["env"]);
    assert!(environment.contains("MYSQL_USER=ernie") && !environment.contains("HushHush"), "{environment}");

    let pod = lesson.pod("secrets/podManifestVolume.yaml");
    lesson.prints("ernie HushHush");
    let modes = lesson.0.exec(POD, &["ls", "-lL", "/secrets"]);
    assert_eq!(modes.matches("-r--r-----").count(), 2, "{modes}");
    let patch = r#"{"stringData":{"mysql_pass":"Psst"}}"#;
    lesson.0.says(&["patch", "secret", "my-secrets", "--patch", patch]);
    lesson.prints("ernie HushHush\nernie Psst");
    lesson.still_runs(&pod);
}

/// The cluster has no registry that asks for a password: its image is on the nodes.
#[test]
fn pod_names_the_secret_for_its_registry() {
    let namespace = Namespace::new("private");
    let words = ["create", "secret", "docker-registry", "my-registry", "--docker-server=registry.test"];
    namespace.says(&[&words[..], &["--docker-username=ernie", "--docker-password=HushHush"]].concat());
    namespace.apply_example("config/secrets/podFromPrivate.yaml");
    namespace.ready("name=my-pod", 1);
    let secret = namespace.says(&["get", "secret", "my-registry", "-o", "jsonpath={.type}"]);
    assert_eq!(secret, "kubernetes.io/dockerconfigjson");
    let named = namespace.json(&["get", "pod", POD])["spec"]["imagePullSecrets"][0]["name"].clone();
    assert_eq!(named, "my-registry");
}
