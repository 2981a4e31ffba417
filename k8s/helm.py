"""The commands of k8s/helm, on the chart in k8s/chart."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import helm_python

CHART = pathlib.Path(__file__).resolve().parent / "chart"


def documents(rendered, hooks):
    """The objects of a rendering as YAML documents, namespaces first, each after the file it comes from."""
    found = []
    for path, text in sorted(rendered.items()):
        if path.endswith("NOTES.txt"):
            continue
        for document in ("\n" + text).split("\n---\n"):
            lines = [line for line in document.splitlines() if line.strip()]
            is_hook = any(line.strip().startswith("helm.sh/hook:") for line in lines)
            if lines and hooks in (None, is_hook):
                found.append(("kind: Namespace" not in lines, f"# Source: {path}\n{document.strip()}\n"))
    found.sort(key=lambda pair: pair[0])
    return "---\n".join(text for _, text in found)


def render(request):
    """Renders the chart; the keys are values, name, namespace, hooks and notes."""
    values = request.get("values") or {}
    with helm_python.Chart.load(request.get("chart") or CHART) as chart:
        name = request.get("name") or "nodecrew"
        chart.validate_schema(values)
        rendered = chart.render(values, name=name, namespace=request.get("namespace") or "nodecrew")
    if request.get("notes"):
        return rendered["nodecrew/templates/NOTES.txt"]
    return documents(rendered, request.get("hooks"))


def template(args):
    values = helm_python.values_from_yaml(pathlib.Path(args.values).read_text()) if args.values else {}
    request = {"values": values, "name": args.release, "namespace": args.namespace, "notes": args.notes}
    request["hooks"] = {"all": None, "none": False, "only": True}[args.hooks]
    sys.stdout.write(render(request))


def answers(args):
    """Answers each line of stdin, a request as `render` takes it, with {"text"} or {"error"} on stdout."""
    for line in sys.stdin:
        try:
            answer = {"text": render(json.loads(line))}
        except helm_python.HelmError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


def lint(args):
    report = helm_python.lint(CHART, strict=True, namespace="nodecrew")
    for message in report["messages"]:
        print(f"{message['path']}: {message['error']}")
    if report["errors"] or any(message["severity"] > 1 for message in report["messages"]):
        sys.exit(1)


def package(args):
    """The same commit gives the same bytes: every file gets the commit's time."""
    when = os.environ.get("SOURCE_DATE_EPOCH")
    if not when:
        words = ["git", "-C", str(CHART), "log", "-1", "--format=%ct"]
        when = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory) / CHART.name
        shutil.copytree(CHART, copy)  # follows the links to the settings
        for path in copy.rglob("*"):
            os.utime(path, (int(when), int(when)))
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.makedirs(args.directory, exist_ok=True)
        print(helm_python.package(copy, destination=args.directory))


def push(args):
    with helm_python.RegistryClient(plain_http=args.plain_http) as client:
        client.push(args.archive, args.remote, plain_http=args.plain_http)
        with helm_python.Chart.load(args.archive) as chart:
            place = f"{args.remote}/{chart.name}"
            digest = client.resolve(f"{place}:{chart.version}")["digest"]
    print(f"{place.removeprefix('oci://')}@{digest}")


def pull(args):
    with helm_python.RegistryClient(plain_http=args.plain_http) as client:
        os.makedirs(args.directory, exist_ok=True)
        words = {"version": args.version, "destination": args.directory, "plain_http": args.plain_http}
        client.pull(args.chart, **words)


def main():
    parser = argparse.ArgumentParser(prog="helm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, about):
        sub = commands.add_parser(function.__name__, help=about)
        sub.set_defaults(run=function)
        return sub

    sub = command(template, "print the objects of a release, namespaces first")
    sub.add_argument("release", nargs="?", default="nodecrew")
    sub.add_argument("--namespace", "-n", default="nodecrew")
    sub.add_argument("--values", "-f", metavar="FILE")
    sub.add_argument("--hooks", choices=["all", "none", "only"], default="none", help="the pods of `helm test`")
    sub.add_argument("--notes", action="store_true", help="print what an installation prints instead")
    command(answers, "answer requests in JSON, one a line, for the tests")
    command(lint, "print what Helm dislikes; exit 1 on warnings")
    command(package, "make nodecrew-VERSION.tgz and print its path").add_argument("directory")
    sub = command(push, "push a package and print NAME@DIGEST")
    sub.add_argument("archive")
    sub.add_argument("remote", help="such as oci://registry.example.org/charts")
    sub.add_argument("--plain-http", action="store_true")
    sub = command(pull, "pull a package")
    sub.add_argument("chart", help="such as oci://registry.example.org/charts/nodecrew")
    sub.add_argument("directory")
    sub.add_argument("--version")
    sub.add_argument("--plain-http", action="store_true")
    args = parser.parse_args()
    try:
        args.run(args)
    except helm_python.HelmError as error:
        sys.exit(f"helm: {error}")


main()
