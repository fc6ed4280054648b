{{- define "elf-team.monitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ .Values.monitoring.kind }}
metadata:
  name: {{ include "elf-team.name" . }}
  namespace: {{ .Values.namespace | quote }}
  labels:
    {{- include "elf-team.labels" . | nindent 4 }}
    {{- range $key, $value := .Values.monitoring.labels }}
    {{ $key | quote }}: {{ $value | quote }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "elf-team.selectorLabels" . | nindent 6 }}
  namespaceSelector:
    matchNames:
      - {{ .Values.namespace | quote }}
  {{ ternary "endpoints" "podMetricsEndpoints" (eq .Values.monitoring.kind "ServiceMonitor") }}:
    - port: metrics
      path: /metrics
      interval: {{ .Values.monitoring.interval }}
{{- end -}}
