{{/*
`helm test`: the team's own image asks the team something through its Service, and succeeds with the answer. It has no
label of the team's pods, so that the Service does not lead to it.
*/}}
{{- define "elf-team.test" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "elf-team.testName" . }}
  namespace: {{ .Values.namespace | quote }}
  labels:
    {{- include "elf-team.testLabels" . | nindent 4 }}
    # By which kubectl picks it out of all that the chart renders, where no Helm release is there to test.
    elf-sdk/hook: test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  restartPolicy: Never
  activeDeadlineSeconds: {{ add (int .Values.test.seconds) 60 }}
  serviceAccountName: {{ include "elf-team.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with .Values.scheduling.nodeSelector }}
  nodeSelector:
    {{- range $key, $value := . }}
    {{ $key | quote }}: {{ $value | quote }}
    {{- end }}
  {{- end }}
  {{- with .Values.scheduling.tolerations }}
  tolerations:
    {{- include "elf-team.literals" . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "elf-team.podSecurity" . | nindent 4 }}
  containers:
    - name: test
      image: {{ include "elf-team.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - elf
        - ask
        - {{ include "elf-team.name" . | quote }}
        - {{ .Values.test.message | quote }}
        - --url
        - http://{{ include "elf-team.name" . }}.{{ .Values.namespace }}.svc:8000
        - --within
        - {{ .Values.test.seconds | int | quote }}
      securityContext:
        {{- include "elf-team.containerSecurity" . | nindent 8 }}
      env:
        - name: HOME
          value: /tmp
        - name: ELF_ENVIRONMENT
          value: {{ .Values.environment | quote }}
        - name: ELF_ORGANISATION
          value: {{ .Values.organisation | quote }}
        - name: {{ include "elf-team.testVariable" . }}_FILE
          value: /run/secrets/elf/{{ include "elf-team.testVariable" . }}
      resources:
        requests:
          cpu: 25m
          memory: 128Mi
          ephemeral-storage: 16Mi
        limits:
          cpu: 500m
          memory: 256Mi
          ephemeral-storage: 64Mi
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: token
          mountPath: /run/secrets/elf
          readOnly: true
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    - name: token
      projected:
        defaultMode: 288 # 0440; YAML's versions read an octal number differently
        sources:
          {{- include "elf-team.testSource" . | trim | nindent 10 }}
{{- end -}}

{{/*
What the test shows who it is with: a token of its own, a signature with the secret that the team verifies with, or the
token of the team's service account. Here the variable, whose file it is.
*/}}
{{- define "elf-team.testVariable" -}}
{{- $shared := false }}
{{- range .Values.secrets }}
{{- if eq .name "JWT_SECRET_KEY" }}
{{- $shared = true }}
{{- end }}
{{- end }}
{{- ternary "JWT_SECRET_KEY" "ELF_TOKEN" (and $shared (not .Values.test.secret)) }}
{{- end -}}

{{- define "elf-team.testSource" -}}
{{- if .Values.test.secret }}
- secret:
    name: {{ .Values.test.secret | quote }}
    items:
      - key: {{ .Values.test.key | quote }}
        path: ELF_TOKEN
{{- else if eq (include "elf-team.testVariable" .) "JWT_SECRET_KEY" }}
{{- range .Values.secrets }}
{{- if eq .name "JWT_SECRET_KEY" }}
- secret:
    name: {{ .secret | quote }}
    items:
      - key: {{ .key | quote }}
        path: JWT_SECRET_KEY
{{- end }}
{{- end }}
{{- else }}
- serviceAccountToken:
    path: ELF_TOKEN
    audience: {{ printf "elf:%s:%s:%s" .Values.organisation .Values.environment (include "elf-team.name" .) | quote }}
    expirationSeconds: 600
{{- end }}
{{- end -}}

{{- define "elf-team.testLabels" -}}
app: {{ include "elf-team.testName" . }}
app.kubernetes.io/name: {{ include "elf-team.testName" . }}
app.kubernetes.io/component: test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: {{ .Values.organisation | quote }}
app.kubernetes.io/version: {{ include "elf-team.labelValue" .Values.team.version }}
elf-sdk/environment: {{ .Values.environment | quote }}
helm.sh/chart: {{ include "elf-team.labelValue" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- end -}}

{{/* The test reaches the team and DNS, and nobody reaches the test. */}}
{{- define "elf-team.testPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "elf-team.testName" . }}
  namespace: {{ .Values.namespace | quote }}
  labels:
    {{- include "elf-team.testLabels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      app: {{ include "elf-team.testName" . }}
  policyTypes:
    - Ingress
    - Egress
  ingress: []
  egress:
    {{- include "elf-team.policyRule" .Values.networkPolicy.egress.dns | nindent 4 }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "elf-team.selectorLabels" . | nindent 14 }}
      ports:
        - port: 8000
          protocol: TCP
{{- end -}}
