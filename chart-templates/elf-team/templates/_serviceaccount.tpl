{{- define "elf-team.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}
