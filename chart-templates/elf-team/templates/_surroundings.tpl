{{/* Who reaches the team beside the organisation's edges: what stands in front of it, its Prometheus, its test. */}}
{{- define "elf-team.ingressRules" -}}
{{- $controllers := list }}
{{- if .Values.ingress.enabled }}
{{- $controllers = append $controllers .Values.ingress.controller }}
{{- end }}
{{- if .Values.httpRoute.enabled }}
{{- $controllers = append $controllers .Values.httpRoute.controller }}
{{- end }}
{{- with $controllers }}
- from:
    {{- range . }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace | quote }}
      {{- with .labels }}
      podSelector:
        matchLabels:
          {{- range $key, $value := . }}
          {{ $key | quote }}: {{ $value | quote }}
          {{- end }}
      {{- end }}
    {{- end }}
  ports:
    - port: http
      protocol: TCP
    {{- if int $.Values.ports.grpc }}
    - port: grpc
      protocol: TCP
    {{- end }}
{{- end }}
{{- if .Values.monitoring.enabled }}
- from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.monitoring.namespace | quote }}
  ports:
    - port: metrics
      protocol: TCP
{{- end }}
{{- if .Values.test.enabled }}
- from:
    - podSelector:
        matchLabels:
          app: {{ include "elf-team.testName" . }}
  ports:
    - port: http
      protocol: TCP
{{- end }}
{{- end -}}
