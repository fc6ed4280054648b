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
{{- if and .Values.podDisruptionBudget.enabled (gt (int .Values.replicas) 1) }}
---
{{ include "elf-team.podDisruptionBudget" . }}
{{- end }}
{{- end -}}
