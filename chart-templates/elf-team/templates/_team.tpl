{{/* Every object of a team. */}}
{{- define "elf-team.all" -}}
{{ include "elf-team.serviceAccount" . }}
---
{{ include "elf-team.configMap" . }}
---
{{ include "elf-team.edges" . }}
---
{{ include "elf-team.service" . }}
---
{{ include "elf-team.deployment" . }}
{{- if .Values.networkPolicy.enabled }}
---
{{ include "elf-team.networkPolicy" . }}
{{- if .Values.networkPolicy.egress.cilium.enabled }}
---
{{ include "elf-team.ciliumNetworkPolicy" . }}
{{- end }}
{{- end }}
{{- if and .Values.podDisruptionBudget.enabled (gt (include "elf-team.leastReplicas" . | int) 1) }}
---
{{ include "elf-team.podDisruptionBudget" . }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
---
{{ include (ternary "elf-team.scaledObject" "elf-team.horizontalPodAutoscaler" (eq .Values.autoscaling.kind "keda")) . }}
{{- end }}
{{- if .Values.ingress.enabled }}
---
{{ include "elf-team.ingress" . }}
{{- end }}
{{- if .Values.httpRoute.enabled }}
---
{{ include "elf-team.httpRoute" . }}
{{- end }}
{{- if .Values.monitoring.enabled }}
---
{{ include "elf-team.monitor" . }}
{{- end }}
{{- if .Values.externalSecrets.enabled }}
{{ include "elf-team.externalSecrets" . }}
{{- end }}
{{- if .Values.test.enabled }}
---
{{ include "elf-team.test" . }}
{{- if .Values.networkPolicy.enabled }}
---
{{ include "elf-team.testPolicy" . }}
{{- end }}
{{- end }}
{{- end -}}
