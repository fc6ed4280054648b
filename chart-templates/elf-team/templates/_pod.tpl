{{- define "elf-team.pod" -}}
serviceAccountName: {{ include "elf-team.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.drain }}
terminationGracePeriodSeconds: {{ add (int .preStopSeconds) (int .runSeconds) (int .closeSeconds) }}
{{- end }}
securityContext:
  {{- include "elf-team.podSecurity" . | nindent 2 }}
{{ include "elf-team.scheduling" . }}
{{- if or .Values.migration.enabled .Values.extra.initContainers }}
initContainers:
  {{- if .Values.migration.enabled }}
  {{- include "elf-team.migration" . | nindent 2 }}
  {{- end }}
  {{- include "elf-team.literals" .Values.extra.initContainers | nindent 2 }}
{{- end }}
containers:
  - name: team
    image: {{ include "elf-team.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    securityContext:
      {{- include "elf-team.containerSecurity" . | nindent 6 }}
    ports:
      - name: http
        containerPort: 8000
        protocol: TCP
      - name: metrics
        containerPort: {{ .Values.ports.metrics | int }}
        protocol: TCP
      {{- with int .Values.ports.grpc }}
      - name: grpc
        containerPort: {{ . }}
        protocol: TCP
      {{- end }}
    envFrom:
      - configMapRef:
          name: {{ include "elf-team.configName" . }}
    env:
      # Frameworks write caches under HOME; everything else of the root file system is read-only.
      - name: HOME
        value: /data
      {{- with .Values.image.digest }}
      # Here and not in the ConfigMap, which a pod of the image before would read too when it starts anew.
      - name: ELF_IMAGE_DIGEST
        value: {{ . | quote }}
      {{- end }}
      {{- if eq .Values.team.framework "crewai" }}
      - name: CREWAI_STORAGE_DIR
        value: /data/crewai
      {{- end }}
      {{- range .Values.secrets }}
      {{- if eq .mount "file" }}
      - name: {{ .name }}_FILE
        value: /run/secrets/elf/{{ .name }}
      {{- else }}
      - name: {{ .name }}
        valueFrom:
          secretKeyRef:
            name: {{ .secret | quote }}
            key: {{ .key | quote }}
            optional: {{ .optional }}
      {{- end }}
      {{- end }}
      {{- include "elf-team.literals" .Values.extra.env | nindent 6 }}
    startupProbe:
      {{- include "elf-team.probe" (dict "path" "/startupz" "timing" .Values.probes.startup) | nindent 6 }}
    livenessProbe:
      {{- include "elf-team.probe" (dict "path" "/livez" "timing" .Values.probes.liveness) | nindent 6 }}
    readinessProbe:
      {{- include "elf-team.probe" (dict "path" "/readyz" "timing" .Values.probes.readiness) | nindent 6 }}
    lifecycle:
      preStop:
        # Endpoints need a moment to forget this pod; until then it still answers.
        sleep:
          seconds: {{ .Values.drain.preStopSeconds | int }}
    resources:
      {{- include "elf-team.resources" . | nindent 6 }}
    volumeMounts:
      - name: data
        mountPath: /data
      - name: tmp
        mountPath: /tmp
      {{- include "elf-team.workloadMount" . | nindent 6 }}
      {{- if include "elf-team.secretFiles" . }}
      - name: secrets
        mountPath: /run/secrets/elf
        readOnly: true
      {{- end }}
      {{- include "elf-team.literals" .Values.extra.volumeMounts | nindent 6 }}
  {{- include "elf-team.literals" .Values.extra.containers | nindent 2 }}
volumes:
  - name: data
    emptyDir:
      sizeLimit: {{ .Values.volumes.dataSize | quote }}
  - name: tmp
    emptyDir:
      sizeLimit: {{ .Values.volumes.tmpSize | quote }}
  {{- include "elf-team.workloadVolume" . | nindent 2 }}
  {{- with include "elf-team.secretFiles" . }}
  - name: secrets
    projected:
      defaultMode: 288 # 0440; YAML's versions read an octal number differently
      sources:
        {{- . | trim | nindent 8 }}
  {{- end }}
  {{- if .Values.migration.enabled }}
  {{- include "elf-team.migrationVolume" . | nindent 2 }}
  {{- end }}
  {{- include "elf-team.literals" .Values.extra.volumes | nindent 2 }}
{{- end -}}

{{/* The restricted Pod Security Standard, of a pod and of each container. */}}
{{- define "elf-team.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "elf-team.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
    - ALL
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "elf-team.resources" -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $name, $quantity := index $.Values.resources $kind }}
  {{ $name }}: {{ $quantity | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "elf-team.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
periodSeconds: {{ .timing.periodSeconds | int }}
timeoutSeconds: {{ .timing.timeoutSeconds | int }}
failureThreshold: {{ .timing.failureThreshold | int }}
{{- end -}}

{{/* Sources of the projected volume with the secrets that the process reads as files. */}}
{{- define "elf-team.secretFiles" -}}
{{- range .Values.secrets }}
{{- if eq .mount "file" }}
- secret:
    name: {{ .secret | quote }}
    items:
      - key: {{ .key | quote }}
        path: {{ .name | quote }}
    optional: {{ .optional }}
{{- end }}
{{- end }}
{{- end -}}
