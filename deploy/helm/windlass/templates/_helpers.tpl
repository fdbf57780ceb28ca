{{- define "windlass.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "windlass.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "windlass.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "windlass.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "windlass.selector" -}}
app.kubernetes.io/name: {{ include "windlass.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of an object: list CONTEXT COMPONENT. The selector has the component, so that it matches no Job's pods. */}}
{{- define "windlass.labels" -}}
{{- $component := index . 1 -}}
{{- with index . 0 -}}
{{ include "windlass.selector" . }}
app.kubernetes.io/component: {{ $component }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
{{- end -}}

{{- define "windlass.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "windlass.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "windlass.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "windlass.isShared" -}}
{{- if or (not .Values.persistence.enabled) (has "ReadWriteMany" .Values.persistence.accessModes) -}}yes{{- end -}}
{{- end -}}

{{/* Fails, with what would be right, if the values contradict each other. */}}
{{- define "windlass.check" -}}
{{- if eq (empty .Values.database.url) (empty .Values.database.existingSecret) -}}
{{- fail "set one of database.url (postgres://user:password@host:5432/name) and database.existingSecret (a Secret with the key `url`)" -}}
{{- end -}}
{{- if and (not .Values.store.url) (not .Values.persistence.enabled) -}}
{{- fail "set store.url (such as s3://bucket/prefix), or persistence.enabled to store files in a volume" -}}
{{- end -}}
{{- if and .Values.store.credentials .Values.store.existingSecret -}}
{{- fail "set one of store.credentials and store.existingSecret, not both" -}}
{{- end -}}
{{- if and .Values.apiKey.value .Values.apiKey.existingSecret -}}
{{- fail "set one of apiKey.value and apiKey.existingSecret, not both" -}}
{{- end -}}
{{- if and (not (include "windlass.isShared" .)) (gt (int .Values.replicas) 1) -}}
{{- fail "a volume that is not ReadWriteMany allows a single replica: set replicas to 1, or use a bucket (store.url)" -}}
{{- end -}}
{{- end -}}

{{/* What the pods of the Deployment and of the Job have in common. */}}
{{- define "windlass.pod" -}}
serviceAccountName: {{ include "windlass.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "windlass.container" -}}
name: windlass
image: {{ include "windlass.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml .Values.resources | nindent 2 }}
env:
  - name: WINDLASS_LISTEN
    value: ":8080"
  - name: WINDLASS_DATA_DIR
    value: /var/lib/windlass
  - name: WINDLASS_SHUTDOWN_DELAY
    value: {{ printf "%ds" (int .Values.drainSeconds) }}
  - name: WINDLASS_SHUTDOWN_PATIENCE
    value: {{ printf "%ds" (int .Values.shutdownSeconds) }}
  {{- with .Values.store.url }}
  - name: WINDLASS_STORE
    value: {{ . | quote }}
  {{- end }}
  {{- range $name, $value := .Values.settings }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  - name: DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ default (include "windlass.fullname" .) .Values.database.existingSecret }}
        key: {{ ternary "url" "database-url" (not (empty .Values.database.existingSecret)) }}
  {{- if or .Values.apiKey.value .Values.apiKey.existingSecret }}
  - name: WINDLASS_API_KEY
    valueFrom:
      secretKeyRef:
        name: {{ default (include "windlass.fullname" .) .Values.apiKey.existingSecret }}
        key: api-key
  {{- end }}
{{- if or .Values.store.credentials .Values.store.existingSecret }}
envFrom:
  - secretRef:
      name: {{ default (printf "%s-store" (include "windlass.fullname" .)) .Values.store.existingSecret }}
{{- end }}
volumeMounts:
  - name: data
    mountPath: /var/lib/windlass
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
