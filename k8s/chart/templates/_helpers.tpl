{{/* Labels that Helm adds to every object. They are not in the pods' templates, where a new version of the
     chart would replace pods for nothing. */}}
{{- define "nodecrew.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "nodecrew.queueNamespace" -}}
{{ .Values.queued.namespace.name | default .Release.Namespace }}
{{- end }}

{{/* The namespaces that hold agents, as a JSON list without duplicates. */}}
{{- define "nodecrew.namespaces" -}}
{{- $all := list -}}
{{- if or .Values.logd.enabled .Values.logcd.enabled }}{{ $all = append $all .Release.Namespace }}{{ end -}}
{{- if .Values.queued.enabled }}{{ $all = append $all (include "nodecrew.queueNamespace" .) }}{{ end -}}
{{- uniq $all | toJson -}}
{{- end }}

{{/* The full name of an image: dict "root" $ "image" .Values.logd.image */}}
{{- define "nodecrew.image" -}}
{{- $values := .root.Values.image -}}
{{- with $values.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository -}}
{{- with .image.digest }}@{{ . }}{{ else }}:{{ .image.tag | default $values.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* An image of the same release that no agent's settings name: dict "root" $ "name" "queuectl" */}}
{{- define "nodecrew.clientImage" -}}
{{ include "nodecrew.image" (dict "root" .root "image" (dict "repository" .name "tag" "" "digest" "")) }}
{{- end }}

{{/* The text of an agent's settings: dict "root" $ "agent" "logd" */}}
{{- define "nodecrew.config" -}}
{{- $agent := index .root.Values .agent -}}
{{- $agent.config | default (.root.Files.Get (printf "files/%s.toml" .agent)) | trimSuffix "\n" -}}
{{- end }}

{{/* Labels of an agent's workload and of its pods: dict "agent" "logd" "component" "log-daemon" */}}
{{- define "nodecrew.podLabels" -}}
name: {{ .agent }}
app.kubernetes.io/name: {{ .agent }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: nodecrew
{{- end }}

{{/* Annotations of an agent's pods: dict "root" $ "agent" "logd" "port" "7667" "scraped" true */}}
{{- define "nodecrew.podAnnotations" -}}
{{- $monitoring := .root.Values.monitoring -}}
{{- if and .scraped $monitoring.scrapeAnnotations (not $monitoring.podMonitor.enabled) }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- with (index .root.Values .agent).podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "nodecrew.identity" -}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- end }}

{{/* Where an agent's pods run: dict "root" $ "agent" "logd" "class" "the default priority class" */}}
{{- define "nodecrew.scheduling" -}}
{{- $agent := index .root.Values .agent -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $agent.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $agent.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $agent.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $agent.priorityClassName | default .class }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The probes of an agent: dict "seconds" 60 "host" "", an address other than the pod's own */}}
{{- define "nodecrew.probes" -}}
{{- $host := .host | empty | ternary "" (printf ", host: %s" .host) -}}
startupProbe: {httpGet: {path: /ready, port: admin{{ $host }}}, periodSeconds: 1, failureThreshold: {{ .seconds }}}
readinessProbe: {httpGet: {path: /ready, port: admin{{ $host }}}, periodSeconds: 5}
livenessProbe: {httpGet: {path: /live, port: admin{{ $host }}}, periodSeconds: 10, timeoutSeconds: 5}
{{- end }}

{{/* The rights of user 0 on a node, without any capability. */}}
{{- define "nodecrew.nodeSecurity" -}}
runAsUser: 0
runAsGroup: 0
seccompProfile: {type: RuntimeDefault}
{{- if .Values.selinux.enabled }}
seLinuxOptions: {type: spc_t}
{{- end }}
{{- end }}

{{- define "nodecrew.priorityClass" -}}
{{- if .Values.priorityClass.create }}{{ .Values.priorityClass.name }}{{ end }}
{{- end }}

{{/* Some settings would cut off other programs, or start two agents that cannot run. */}}
{{- define "nodecrew.check" -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.defaultDeny }}
{{- range include "nodecrew.namespaces" . | fromJsonArray }}
{{- if or (eq . "default") (hasPrefix "kube-" .) }}
{{- fail (printf "networkPolicy.defaultDeny would cut off every other pod of namespace %s: choose another namespace, or set networkPolicy.defaultDeny=false" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.logd.hostNetwork (ne (int .Values.logd.hostPort) 6666) }}
{{- fail "logd.hostPort must be 6666 with logd.hostNetwork: logd then listens on the node itself; change `listen` in logd.config instead" }}
{{- end }}
{{- end }}
