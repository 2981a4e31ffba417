{{/* A pod of `helm test` satisfies Pod Security `restricted`. */}}
{{- define "nodecrew.testSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "nodecrew.testContainer" -}}
resources: {requests: {cpu: 5m, memory: 8Mi}, limits: {memory: 32Mi}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A test runs where the agent may run: dict "root" $ "agent" .Values.logd */}}
{{- define "nodecrew.testScheduling" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .agent.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .agent.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A container of queuectl: dict "root" $ "name" "push" "args" (list …) "image" "…" "tls" "" "token" "" */}}
{{- define "nodecrew.testQueuectl" -}}
- name: {{ .name }}
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ toJson .args }}
  env:
    - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: QUEUE_URL, value: "{{ ternary "https" "http" (not (empty .tls)) }}://queue:8080"}
    {{- if .tls }}
    - {name: QUEUECTL_TLS_CA, value: /etc/queued-ca/ca.crt}
    {{- end }}
    {{- if .token }}
    - {name: QUEUECTL_TOKEN_FILE, value: /etc/queued-token/token}
    {{- end }}
  {{- include "nodecrew.testContainer" .root | nindent 2 }}
  {{- if or .tls .token }}
  volumeMounts:
    {{- if .tls }}
    - {name: ca, mountPath: /etc/queued-ca, readOnly: true}
    {{- end }}
    {{- if .token }}
    - {name: token, mountPath: /etc/queued-token, readOnly: true}
    {{- end }}
  {{- end }}
{{- end }}
